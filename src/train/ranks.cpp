// The only unit that knows LibTorch's c10d. Its Gloo group needs Gloo's headers, which LibTorch
// does not bring; the code of both is in libtorch_cpu. RWKVX_NCCL: its NCCL group, in
// libtorch_cuda, with NCCL's headers.
#include "train/ranks.h"

#include <arpa/inet.h>
#include <c10/util/Logging.h>
#include <netdb.h>
#include <sys/socket.h>
#include <torch/types.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <optional>
#include <sstream>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#ifdef RWKVX_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "rwkvx/base/descriptor.h"
#include "rwkvx/base/interrupt.h"
#include "train/rank_watch.h"

namespace rwkvx {
namespace {

using Milliseconds = std::chrono::milliseconds;
constexpr auto kLook = Milliseconds(20);  // between looks at whether something is there
constexpr Milliseconds kPatience = std::chrono::hours(24 * 365);
constexpr char kWatchKey[] = "rwkvx/watch";

Milliseconds milliseconds(double seconds) {
  return Milliseconds(static_cast<std::int64_t>(seconds * 1000) + 1);
}

std::string first_line(const std::exception& error) {
  const auto* ours = dynamic_cast<const c10::Error*>(&error);
  const std::string text = ours != nullptr ? ours->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

// The address that this machine has in the network in which `host` is.
std::string own_address(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0)
    throw Error("MASTER_ADDR", "there is no machine \"" + host + "\"");
  std::string own;
  for (const auto* one = found; one != nullptr && own.empty(); one = one->ai_next) {
    const Descriptor socket(::socket(one->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!socket) continue;
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    char text[NI_MAXHOST] = "";
    // Sends nothing, but finds the way.
    if (::connect(socket.get(), one->ai_addr, one->ai_addrlen) == 0 &&
        ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0 &&
        ::getnameinfo(reinterpret_cast<sockaddr*>(&address), length, text, sizeof text, nullptr, 0,
                      NI_NUMERICHOST) == 0)
      own = text;
  }
  ::freeaddrinfo(found);
  if (own.empty()) throw Error("MASTER_ADDR", "there is no way to the machine \"" + host + "\"");
  return own;
}

// Ends the process where it still lives after `seconds`, for calls that know no time limit.
class Deadline {
 public:
  Deadline(double seconds, const std::string& text)
      : thread_([this, seconds, text] {
          std::unique_lock lock(mutex_);
          const auto over = [this] { return over_; };
          if (over_done_.wait_for(lock, std::chrono::duration<double>(seconds), over)) return;
          std::fprintf(stderr, "rwkvx: error: %s\n", text.c_str());
          std::fflush(stderr);
          ::_exit(1);
        }) {}
  ~Deadline() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    over_done_.notify_all();
    thread_.join();
  }
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable over_done_;
  bool over_ = false;
  std::thread thread_;
};

at::Tensor bytes_at(void* bytes, std::int64_t count, c10::Device device = c10::kCPU) {
  return torch::from_blob(bytes, {count}, torch::device(device).dtype(torch::kUInt8));
}

// Numbers on a device as a group takes them: where they are, or a copy in this machine's memory
// that goes back afterwards.
class Passed {
 public:
  Passed(at::Tensor values, bool through_host)
      : values_(std::move(values)), own_{through_host ? values_.cpu() : values_} {}
  std::vector<at::Tensor>& tensors() { return own_; }
  void put_back() {
    if (!own_.front().is_same(values_)) values_.copy_(own_.front());
  }

 private:
  at::Tensor values_;
  std::vector<at::Tensor> own_;
};

}  // namespace

struct Ranks::Impl {
  RankPlace place;
  double timeout = 0;
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group;
  std::unique_ptr<RankWatch> watch;
  c10::Device device = c10::kCPU;
#ifdef RWKVX_NCCL
  c10::intrusive_ptr<c10d::ProcessGroupNCCL> nccl;  // on GPUs
#endif
  std::vector<std::pair<c10::intrusive_ptr<c10d::Work>, Passed>> sums;
  bool gave_up = true;  // until all has gone well

  ~Impl() {
    if (!gave_up) return;
    // The group would wait for ranks that are gone, and the watch ends a process that does.
    group.release();
#ifdef RWKVX_NCCL
    nccl.release();
#endif
    [[maybe_unused]] const auto* kept = watch.release();
  }

  std::string master() const { return place.address + ":" + std::to_string(place.port); }

  void open_store() {
#ifndef C10_USE_GLOG
    FLAGS_caffe2_log_level =
        c10::GLOG_FATAL;  // c10d would say at length what is said in a line here
#endif
    c10d::TCPStoreOptions options;
    options.port = static_cast<std::uint16_t>(place.port);
    options.isServer = place.rank == 0 && !place.agent_store;
    options.numWorkers = static_cast<std::size_t>(place.size);
    options.waitWorkers = false;
    options.timeout = milliseconds(timeout);
    try {
      store = c10::make_intrusive<c10d::PrefixStore>(
          place.job, c10::make_intrusive<c10d::TCPStore>(place.address, options));
    } catch (const std::exception& error) {
      if (options.isServer)
        throw Error("rank 0", "cannot listen at " + master() + " (" + first_line(error) +
                                  "); choose another port with MASTER_PORT");
      throw RankError("rank 0 at " + master() + " could not be reached within " + seconds_text());
    }
  }
  std::string seconds_text() const {
    char text[64];
    std::snprintf(text, sizeof text, "%g s (train.timeout)", timeout);
    return text;
  }

  void meet() {
    // A store whose machine or process stands still is not noticed by calls to it.
    std::optional<Deadline> deadline;
    if (place.rank != 0)
      deadline.emplace(timeout,
                       "rank 0 at " + master() + " did not answer within " + seconds_text());
    open_store();
    const auto own = own_address(place.address, place.port);
    if (place.rank == 0) {
      watch = std::make_unique<RankWatch>(place.size, timeout);
      store->set(kWatchKey, own + " " + std::to_string(watch->port()) + " " + watch->key());
      const auto end = std::chrono::steady_clock::now() + milliseconds(timeout);
      for (std::string absent; !(absent = watch->absent()).empty();) {
        throw_if_interrupted("training");
        check();
        if (std::chrono::steady_clock::now() > end)
          throw RankError(absent + " of " + std::to_string(place.size) + " did not start within " +
                          seconds_text());
        std::this_thread::sleep_for(kLook);
      }
    } else {
      const auto end = std::chrono::steady_clock::now() + milliseconds(timeout);
      try {
        while (!store->check({kWatchKey})) {
          throw_if_interrupted("training");
          if (std::chrono::steady_clock::now() > end)
            throw RankError("rank 0 did not start within " + seconds_text());
          std::this_thread::sleep_for(kLook);
        }
        std::istringstream line(store->get_to_str(kWatchKey));
        std::string address, key;
        int port = 0;
        line >> address >> port >> key;
        watch = std::make_unique<RankWatch>(place.rank, place.size, timeout, address, port, key);
      } catch (const c10::Error&) {
        throw RankError("rank 0 at " + master() + " ended while the ranks met");
      }
    }
    deadline.reset();
    const RankWatch::Waiting waiting(*watch);
    auto options = c10d::ProcessGroupGloo::Options::create(milliseconds(timeout));
    try {
      options->devices = {c10d::ProcessGroupGloo::createDeviceForHostname(own)};
      group = c10::make_intrusive<c10d::ProcessGroupGloo>(
          c10::make_intrusive<c10d::PrefixStore>("gloo", store), place.rank, place.size, options);
    } catch (const std::exception& error) {
      failed(error);
    }
  }

  void check() {
    if (const auto cause = watch->cause(); !cause.empty()) throw RankError(cause);
  }
  // A connection broke, or nothing came.
  [[noreturn]] void failed(const std::exception& error) {
    if (const auto cause = watch->wait_for_cause(); !cause.empty()) throw RankError(cause);
    throw RankError("rank " + std::to_string(place.rank) +
                    " could not exchange numbers with the others (" + first_line(error) + ")");
  }

  // Bytes or numbers where the model lies.
  Passed passed(at::Tensor values) const {
    bool through_host = !device.is_cpu();
#ifdef RWKVX_NCCL
    if (nccl != nullptr) through_host = false;
#endif
    return Passed(std::move(values), through_host);
  }
  Passed passed(void* bytes, std::int64_t count) const {
    return passed(bytes_at(bytes, count, device));
  }
  // The group that takes them.
  c10d::Backend& backend() const {
#ifdef RWKVX_NCCL
    if (nccl != nullptr) return *nccl;
#endif
    return *group;
  }

  template <class Begin>
  void call(const Begin& begin, Wait wait = Wait::kTimeout) {
    check();
    const RankWatch::Waiting waiting(*watch);
    try {
      begin()->wait(wait == Wait::kPatient ? kPatience : kNoTimeout);
    } catch (const std::exception& error) {
      failed(error);
    }
  }
};

Ranks::Ranks(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Ranks::~Ranks() = default;

bool Ranks::built() { return true; }

std::unique_ptr<Ranks> Ranks::join(const RankPlace& place, double timeout) {
  auto impl = std::make_unique<Impl>();
  impl->place = place;
  impl->timeout = timeout;
  try {
    impl->meet();
  } catch (const Error& error) {
    if (impl->watch != nullptr) impl->watch->tell_failure(error.what());
    throw;
  }
  return std::unique_ptr<Ranks>(new Ranks(std::move(impl)));
}

int Ranks::rank() const { return impl_->place.rank; }
int Ranks::size() const { return impl_->place.size; }

void Ranks::set_device(const std::string& device) {
  impl_->device = c10::Device(device);
#ifdef RWKVX_NCCL
  if (!impl_->device.is_cuda()) return;
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = milliseconds(impl_->timeout);
  const RankWatch::Waiting waiting(*impl_->watch);
  try {
    impl_->nccl = c10::make_intrusive<c10d::ProcessGroupNCCL>(
        c10::make_intrusive<c10d::PrefixStore>("nccl", impl_->store), impl_->place.rank,
        impl_->place.size, options);
  } catch (const std::exception& error) {
    impl_->failed(error);
  }
#endif
}

void Ranks::begin_sum(float* values, std::int64_t count) {
  if (count == 0) return;
  impl_->check();
  try {
    auto numbers = impl_->passed(
        torch::from_blob(values, {count}, torch::device(impl_->device).dtype(torch::kFloat32)));
    auto work = impl_->backend().allreduce(numbers.tensors());
    impl_->sums.emplace_back(std::move(work), std::move(numbers));
  } catch (const std::exception& error) {
    impl_->failed(error);
  }
}

void Ranks::finish_sums() {
  const RankWatch::Waiting waiting(*impl_->watch);
  try {
    for (auto& [work, numbers] : impl_->sums) {
      work->wait();
      numbers.put_back();
    }
  } catch (const std::exception& error) {
    impl_->failed(error);
  }
  impl_->sums.clear();
}

void Ranks::broadcast_values(void* bytes, std::int64_t count) {
  if (count == 0) return;
  auto values = impl_->passed(bytes, count);
  impl_->call([&] { return impl_->backend().broadcast(values.tensors()); });
  values.put_back();
}

std::vector<std::vector<double>> Ranks::gather(const std::vector<double>& own, Wait wait) {
  const auto count = static_cast<std::int64_t>(own.size());
  std::vector<at::Tensor> inputs{torch::tensor(own, torch::kFloat64)};
  std::vector<std::vector<at::Tensor>> outputs(1);
  for (int r = 0; r < size(); ++r) outputs[0].push_back(torch::empty({count}, torch::kFloat64));
  c10d::AllgatherOptions options;
  if (wait == Wait::kPatient) options.timeout = kPatience;
  impl_->call([&] { return impl_->group->allgather(outputs, inputs, options); }, wait);
  std::vector<std::vector<double>> all;
  for (const auto& one : outputs[0]) {
    const double* numbers = one.const_data_ptr<double>();
    all.emplace_back(numbers, numbers + count);
  }
  return all;
}

void Ranks::broadcast(void* bytes, std::int64_t count, int from, Wait wait) {
  if (count == 0) return;
  std::vector<at::Tensor> tensors{bytes_at(bytes, count)};
  c10d::BroadcastOptions options;
  options.rootRank = from;
  if (wait == Wait::kPatient) options.timeout = kPatience;
  impl_->call([&] { return impl_->group->broadcast(tensors, options); }, wait);
}

std::string Ranks::broadcast_text(const std::string& text, int from, Wait wait) {
  auto size = static_cast<std::int64_t>(text.size());
  broadcast(&size, sizeof size, from, wait);
  std::string result = rank() == from ? text : std::string(static_cast<std::size_t>(size), '\0');
  broadcast(result.data(), size, from, wait);
  return result;
}

void Ranks::share_ranges(void* bytes, const std::vector<Range>& ranges) {
  impl_->check();
  const RankWatch::Waiting waiting(*impl_->watch);
  std::vector<std::pair<c10::intrusive_ptr<c10d::Work>, Passed>> works;
  try {
    for (std::size_t r = 0; r < ranges.size(); ++r) {
      if (ranges[r].count == 0) continue;
      auto values = impl_->passed(static_cast<char*>(bytes) + ranges[r].begin, ranges[r].count);
      c10d::BroadcastOptions options;
      options.rootRank = static_cast<std::int64_t>(r);
      auto work = impl_->backend().broadcast(values.tensors(), options);
      works.emplace_back(std::move(work), std::move(values));
    }
    for (auto& [work, values] : works) {
      work->wait();
      values.put_back();
    }
  } catch (const std::exception& error) {
    impl_->failed(error);
  }
}

void Ranks::send(const void* bytes, std::int64_t count, int to) {
  if (count == 0) return;
  auto values = impl_->passed(const_cast<void*>(bytes), count);
  impl_->call([&] { return impl_->backend().send(values.tensors(), to, /*tag=*/0); });
}
void Ranks::receive(void* bytes, std::int64_t count, int from) {
  if (count == 0) return;
  auto values = impl_->passed(bytes, count);
  impl_->call([&] { return impl_->backend().recv(values.tensors(), from, /*tag=*/0); });
  values.put_back();
}

void Ranks::tell_prepared() { impl_->watch->tell_prepared(); }
void Ranks::wait_prepared() {
  while (!impl_->watch->prepared()) {
    impl_->check();
    if (interrupted()) {
      impl_->watch->tell_signal(interrupt_signal());
      throw_if_interrupted("training");
    }
    std::this_thread::sleep_for(kLook);
  }
}
bool Ranks::tell_failure(const std::string& text) { return impl_->watch->tell_failure(text); }
void Ranks::leave() {
  for (int r = 0; r < size(); ++r) {
    char byte = 0;
    broadcast(&byte, 1, r, Wait::kPatient);
  }
  impl_->watch->leave();
  impl_->gave_up = false;
}

}  // namespace rwkvx

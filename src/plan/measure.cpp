// How fast this machine's processors are at a training of this width.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/processors.h"
#include "rwkvx/cores/parameters.h"
#include "rwkvx/model/rwkv.h"
#include "rwkvx/model/training_pass.h"
#include "rwkvx/ops/threads.h"
#include "rwkvx/plan/plan.h"
#include "rwkvx/train/optimizer.h"

namespace rwkvx {
namespace {

using Clock = std::chrono::steady_clock;

// Tokens of a measured batch at most: more take no less time each.
constexpr std::int64_t kMostTokens = 8192;
constexpr int kRepetitions = 3;
constexpr std::size_t kWireBytes = std::size_t{64} << 20, kWirePiece = std::size_t{1} << 20;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The least of a few times: what else the machine does only adds.
template <class Work>
double least_seconds(const Work& work) {
  work();
  double least = 0;
  for (int i = 0; i < kRepetitions; ++i) {
    const auto start = Clock::now();
    work();
    const double seconds = seconds_since(start);
    least = i == 0 ? seconds : std::min(least, seconds);
  }
  return least;
}

struct Measured {
  double pass;       // seconds per token, forward and backward
  double optimizer;  // seconds per parameter
};
Measured measure(TrainConfig config, std::int64_t layers, std::int64_t rows) {
  config.model.n_layer = layers;
  const auto& t = config.train;
  const auto segment = t.segment_tokens > 0 ? std::min(t.segment_tokens, t.ctx_len) : t.ctx_len;
  const auto tokens = rows * segment;
  Rwkv model(config.model);
  model->initialize(/*seed=*/1, 1e-4);
  Optimizer optimizer(*model, t);
  TrainingPassOptions options;
  options.checkpoint_blocks = t.grad_checkpoint == GradCheckpoint::kBlock;
  options.l2wrap = t.l2wrap;
  TrainingPass pass(*model, tokens, segment, options);
  std::mt19937_64 random(1);
  std::uniform_int_distribution<std::int64_t> id(0, config.model.vocab_size - 1);
  std::vector<std::int64_t> inputs(static_cast<std::size_t>(tokens)), targets(inputs.size());
  for (auto* ids : {&inputs, &targets})
    for (auto& one : *ids) one = id(random);
  const auto count = static_cast<double>(tokens);
  return {least_seconds([&] {
            pass.loss_and_gradients(inputs.data(), targets.data(), rows, segment, 1);
          }) / count,
          least_seconds([&] { optimizer.step(/*rate=*/1e-4, optimizer.grad_norm()); }) /
              static_cast<double>(parameter_count(config.model))};
}

class Socket {
 public:
  explicit Socket(int number) : number_(number) {
    if (number_ < 0) throw FileError("the loopback device", "cannot make a connection");
  }
  ~Socket() { ::close(number_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int number() const { return number_; }

 private:
  int number_;
};

// Bytes per second through a connection of this machine with itself.
double loopback_speed() {
  const Socket listening(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const where = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listening.number(), where, size) != 0 || ::listen(listening.number(), 1) != 0 ||
      ::getsockname(listening.number(), where, &size) != 0)
    throw FileError("the loopback device", "cannot listen");
  const Socket sending(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(sending.number(), where, size) != 0)
    throw FileError("the loopback device", "cannot connect");
  const Socket receiving(::accept4(listening.number(), nullptr, nullptr, SOCK_CLOEXEC));
  const auto start = Clock::now();
  std::jthread sender([&] {
    const std::vector<char> piece(kWirePiece);
    for (std::size_t sent = 0; sent < kWireBytes;) {
      const auto got = ::send(sending.number(), piece.data(), piece.size(), MSG_NOSIGNAL);
      if (got <= 0) break;
      sent += static_cast<std::size_t>(got);
    }
    ::shutdown(sending.number(), SHUT_WR);
  });
  std::vector<char> piece(kWirePiece);
  std::size_t received = 0;
  for (ssize_t got; (got = ::recv(receiving.number(), piece.data(), piece.size(), 0)) > 0;)
    received += static_cast<std::size_t>(got);
  return static_cast<double>(received) / seconds_since(start);
}

}  // namespace

Speeds measured_speeds(const TrainConfig& config, std::int64_t ranks) {
  const auto& t = config.train;
  if (const auto lacking = TrainingPass::lacks(config.model); !lacking.empty())
    throw ConfigError("--gpu cpu",
                      "the fused operators, whose speed is measured, do not have " + lacking);
  const auto processors_here = choose_threads(t.threads, processors()).threads;
  // All ranks at once take what one process with all their threads takes, or share the processors.
  const auto used = std::min(processors_here, std::max<std::int64_t>(ranks, processors_here));
  set_threads(used);
  const auto segment = t.segment_tokens > 0 ? std::min(t.segment_tokens, t.ctx_len) : t.ctx_len;
  const auto rows = std::clamp<std::int64_t>(kMostTokens / segment, 1,
                                             std::max<std::int64_t>(1, t.batch_size / ranks));
  const auto one = measure(config, 1, rows), two = measure(config, 2, rows);
  const auto share = static_cast<double>(ranks);
  Speeds speeds;
  speeds.block = share * std::max(0.0, two.pass - one.pass);
  speeds.rest = share * std::max(0.0, 2 * one.pass - two.pass);
  speeds.optimizer = share * two.optimizer;
  if (ranks > 1) speeds.wire = loopback_speed() / share;
  return speeds;
}

}  // namespace rwkvx

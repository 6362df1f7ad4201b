// How fast this machine's processors are at a training of this width.
#include <arpa/inet.h>
#include <malloc.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "plan/segment.h"
#include "rwkvx/base/descriptor.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/statistics.h"
#include "rwkvx/cores/parameters.h"
#include "rwkvx/model/training_pass.h"
#include "rwkvx/plan/plan.h"
#include "rwkvx/train/train_bench.h"

namespace rwkvx {
namespace {

using Clock = std::chrono::steady_clock;

// Tokens of a measured batch at most: more take no less time each.
constexpr std::int64_t kMostTokens = 8192;
constexpr int kRepetitions = 3;
constexpr int kMostAttempts = 10;
// What measuring many blocks may take: the more, the less of the answer is extrapolated.
constexpr double kSeconds = 20;
constexpr std::size_t kWireBytes = std::size_t{64} << 20, kWirePiece = std::size_t{1} << 20;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Measured {
  double pass;       // seconds per token, forward and backward
  double optimizer;  // seconds per parameter
};
// Of a model of so many layers on `rows` sequences, as `bench train` times it.
Measured measure(TrainConfig config, std::int64_t layers, std::int64_t rows) {
  auto& t = config.train;
  config.model.n_layer = layers;
  t.ctx_len = segment_of(t), t.batch_size = rows, t.device = "cpu";
  TrainBenchOptions options;
  options.kinds = {config.model.shift.enabled() ? "enhanced" : "baseline"};
  options.rounds = kRepetitions;
  options.quiet = true;
  const auto series = bench_training(config, options).front();
  throw_if_interrupted("plan");
  double optimizer = 0;
  for (const auto& [name, seconds] : series.operators)
    if (name == kOptimizerOperator) optimizer = seconds / kRepetitions;
  return {(median(series.seconds) - optimizer) / static_cast<double>(t.batch_size * t.ctx_len),
          optimizer / static_cast<double>(parameter_count(config.model))};
}

Descriptor made(int socket) {
  if (socket < 0) throw FileError("the loopback device", "cannot make a connection");
  return Descriptor(socket);
}

// Bytes per second through a connection of this machine with itself.
double loopback_speed() {
  const auto listening = made(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const where = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listening.get(), where, size) != 0 || ::listen(listening.get(), 1) != 0 ||
      ::getsockname(listening.get(), where, &size) != 0)
    throw FileError("the loopback device", "cannot listen");
  const auto sending = made(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(sending.get(), where, size) != 0)
    throw FileError("the loopback device", "cannot connect");
  const auto receiving = made(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const auto start = Clock::now();
  std::jthread sender([&] {
    const std::vector<char> piece(kWirePiece);
    for (std::size_t sent = 0; sent < kWireBytes;) {
      const auto got = ::send(sending.get(), piece.data(), piece.size(), MSG_NOSIGNAL);
      if (got <= 0) break;
      sent += static_cast<std::size_t>(got);
    }
    ::shutdown(sending.get(), SHUT_WR);
  });
  std::vector<char> piece(kWirePiece);
  std::size_t received = 0;
  for (ssize_t got; (got = ::recv(receiving.get(), piece.data(), piece.size(), 0)) > 0;)
    received += static_cast<std::size_t>(got);
  return static_cast<double>(received) / seconds_since(start);
}

}  // namespace

Speeds measured_speeds(const TrainConfig& config, std::int64_t ranks) {
  const auto& t = config.train;
  if (const auto lacking = TrainingPass::lacks(config.model); !lacking.empty())
    throw ConfigError("--gpu cpu",
                      "the fused operators, whose speed is measured, do not have " + lacking);
  // All ranks at once are as fast as one process that has all their sequences on the processors
  // that they share.
  const auto rows = std::clamp<std::int64_t>(kMostTokens / segment_of(t), 1, t.batch_size);
  auto one = measure(config, 1, rows);
  const double of_one = one.pass * static_cast<double>(rows * segment_of(t)) * kRepetitions;
  const auto layers = std::clamp<std::int64_t>(static_cast<std::int64_t>(kSeconds / of_one), 2,
                                               std::max<std::int64_t>(2, config.model.n_layer));
  auto many = measure(config, layers, rows);
  // A block takes some time: where others' work on this machine hid it, once more.
  for (int attempt = 1; many.pass <= one.pass && attempt < kMostAttempts; ++attempt)
    one = measure(config, 1, rows), many = measure(config, layers, rows);
  const auto share = static_cast<double>(ranks);
  const double block = std::max(0.0, many.pass - one.pass) / static_cast<double>(layers - 1);
  Speeds speeds;
  speeds.block = share * block;
  speeds.rest = share * std::max(0.0, one.pass - block);
  speeds.optimizer = share * many.optimizer;
  if (ranks > 1) speeds.wire = loopback_speed() / share;
  ::malloc_trim(0);  // what measuring left behind is not the program's
  return speeds;
}

}  // namespace rwkvx

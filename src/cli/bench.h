// The subcommands of `rwkvx bench`, and the shapes that they name.
#pragma once

#include <cstdint>
#include <string>

namespace CLI {
class App;
}

namespace rwkvx {

struct ModelConfig;

// RWKV-4 shapes that figures are published for; base is that of the 169M model.
inline constexpr char kBenchShapes[] = "tiny|small|base";
// Sets layers, channels and vocabulary; returns the batch of sequences of 512 tokens to train on.
// Throws ConfigError for a name that is none.
std::int64_t set_bench_shape(ModelConfig& model, const std::string& name);

// The flag --load, of both.
void add_bench_load(CLI::App& command, std::int64_t& load);
// How many threads a setting stands for and why, in words.
std::string bench_threads(std::int64_t threads);

void add_bench_decode(CLI::App& bench);
void add_bench_train(CLI::App& bench);

}  // namespace rwkvx

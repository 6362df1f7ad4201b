#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "cli/arguments.h"
#include "cli/bench.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/nearest.h"
#include "rwkvx/base/processors.h"
#include "rwkvx/config/model_config.h"

namespace rwkvx {
namespace {

struct Shape {
  const char* name;
  std::int64_t n_layer, n_embd, vocab_size, batch_size;  // the batch of sequences of 512
};
constexpr Shape kShapes[] = {
    {"tiny", 6, 256, 1024, 8}, {"small", 12, 512, 8192, 8}, {"base", 12, 768, 50277, 2}};

const Shape& shape_of(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& shape : kShapes) {
    if (name == shape.name) return shape;
    names.push_back(shape.name);
  }
  throw ConfigError("--shape", "expected one of " + std::string(kBenchShapes) + ", got \"" + name +
                                   "\"" + did_you_mean(name, names));
}

}  // namespace

void add_bench_load(CLI::App& command, std::int64_t& load) {
  command
      .add_option(
          "--load", load,
          "busy threads of other work beside the measurement, to see how it shares the CPU [0]")
      ->type_name("N")
      ->check(at_least(0));
}

std::string bench_threads(std::int64_t threads) {
  return choose_threads(threads, processors()).reason;
}

std::int64_t set_bench_shape(ModelConfig& model, const std::string& name) {
  const auto& shape = shape_of(name);
  model.n_layer = shape.n_layer;
  model.n_embd = shape.n_embd;
  model.vocab_size = shape.vocab_size;
  return shape.batch_size;
}

}  // namespace rwkvx

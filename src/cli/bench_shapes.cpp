#include <string>
#include <vector>

#include "cli/bench.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/nearest.h"
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

std::int64_t set_bench_shape(ModelConfig& model, const std::string& name) {
  const auto& shape = shape_of(name);
  model.n_layer = shape.n_layer;
  model.n_embd = shape.n_embd;
  model.vocab_size = shape.vocab_size;
  return shape.batch_size;
}

}  // namespace rwkvx

#include "generate/initial_state.h"

#include <algorithm>
#include <string>
#include <unordered_map>

#include "rwkvx/base/error.h"
#include "rwkvx/base/file_kind.h"
#include "rwkvx/cores/naming.h"
#include "rwkvx/formats/tensor_file.h"

namespace rwkvx {
namespace {

constexpr std::string_view kEnding = ".att.time_state", kRow = ".att.wkv";

// (heads, key, value) to the state's (heads, value, key).
void transpose(const std::vector<float>& from, std::int64_t heads, std::int64_t size, float* to) {
  for (std::int64_t h = 0; h < heads; ++h)
    for (std::int64_t i = 0; i < size; ++i)
      for (std::int64_t j = 0; j < size; ++j)
        to[(h * size + i) * size + j] = from[static_cast<std::size_t>((h * size + j) * size + i)];
}

}  // namespace

std::optional<PlainState> read_initial_state(const std::filesystem::path& path,
                                             const std::vector<StateRow>& rows) try {
  if (!first_bytes(path.string()).starts_with("PK")) return std::nullopt;
  const auto file = open_tensor_file(path);
  std::unordered_map<std::string, const TensorView*> states;
  for (const auto& tensor : file.tensors())
    if (const auto name = without_wrappers(tensor.name); name.ends_with(kEnding))
      states[std::string(name.substr(0, name.size() - kEnding.size())) + std::string(kRow)] =
          &tensor;
  if (states.empty())
    throw DataError(path.string(), "expected a state, got a file without blocks.0.att.time_state");
  PlainState state;
  for (const auto& row : rows) {
    auto& values = state.values.emplace_back(static_cast<std::size_t>(row.count()));
    row.fill(values.data());
    if (!row.name.ends_with(kRow)) continue;
    const auto found = states.find(row.name);
    const auto where = path.string() + ": " + row.name.substr(0, row.name.size() - kRow.size()) +
                       std::string(kEnding);
    if (found == states.end())
      throw DataError(where, "is missing; the file is the initial state of another model");
    const auto& tensor = *found->second;
    if (row.shape.size() != 3 || row.shape[1] != row.shape[2] || tensor.shape != row.shape)
      throw DataError(where, "expected the state of this model, " + shape_text(row.shape) +
                                 ", got " + shape_text(tensor.shape));
    transpose(to_float32(tensor), row.shape[0], row.shape[1], values.data());
    states.erase(found);
  }
  if (!states.empty())
    throw DataError(path.string() + ": " + states.begin()->second->name,
                    "is the state of a block that the model does not have");
  return state;
} catch (const CheckpointError& error) {
  throw DataError("", error.what());
}

}  // namespace rwkvx

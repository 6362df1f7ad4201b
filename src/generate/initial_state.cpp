#include "generate/initial_state.h"

#include "rwkvx/adapters/apply.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/file_kind.h"

namespace rwkvx {

std::optional<PlainState> read_initial_state(const std::filesystem::path& path,
                                             const std::vector<StateRow>& rows) try {
  if (!first_bytes(path.string()).starts_with("PK")) return std::nullopt;
  if (!is_adapter(path))
    throw DataError(path.string(), "expected a state, got a file without blocks.0.att.time_state");
  const auto adapter = read_adapter(path);
  if (adapter.kind != AdapterKind::kState)
    throw DataError(path.string(), "expected a state, got LoRA matrices; use them with --adapter");
  return initial_state(adapter, rows, path.string());
} catch (const CheckpointError& error) {
  throw DataError("", error.what());
}

}  // namespace rwkvx

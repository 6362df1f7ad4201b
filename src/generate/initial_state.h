// Tuned initial states of other tools.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "rwkvx/cores/state.h"

namespace rwkvx {

// The state that a file of tuned initial states begins a text with: a .pth with
// "blocks.I.att.time_state" for every block, as RWKV-PEFT's training writes it
// (adapters/adapter.h); all else starts as usual. Nothing for a file that is no .pth. Throws
// DataError for one of another model, FileError.
std::optional<PlainState> read_initial_state(const std::filesystem::path& path,
                                             const std::vector<StateRow>& rows);

}  // namespace rwkvx

// States of prompts that were seen before.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "generate/state_file.h"
#include "rwkvx/engine/engine.h"

namespace rwkvx {

// The states after prompts' beginnings, at multiples of kPromptCacheStep tokens, in a folder of
// bounded size: what was used longest ago goes first. Damaged files are passed over. Several
// processes may share it. Where the folder cannot be written, a warning says so once, and the rest
// goes on without keeping anything.
class PromptCache {
 public:
  PromptCache(std::filesystem::path folder, std::int64_t bytes, StateOwner owner);
  // The state after the longest prefix of `tokens` (and not all of it) that is there.
  std::optional<PlainState> find(std::span<const TokenId> tokens) const;
  // Keeps the state after all of `tokens`; `state` is asked for it where it is not there yet.
  void keep(std::span<const TokenId> tokens, const std::function<PlainState()>& state) const;

 private:
  std::filesystem::path file_of(std::span<const TokenId> tokens) const;
  void make_room() const;
  void give_up(const std::string& reason) const;
  std::filesystem::path folder_;
  std::int64_t bytes_;
  StateOwner owner_;
  mutable bool failed_ = false;
};
// A multiple of Engine::kChunk, so that a prompt gives the same bits with and without the cache.
inline constexpr std::int64_t kPromptCacheStep = 2 * Engine::kChunk;

}  // namespace rwkvx

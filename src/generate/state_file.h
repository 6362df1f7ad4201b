// States of sequences in files.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "generate/drawing.h"
#include "rwkvx/engine/engine.h"

namespace rwkvx {

// What a state belongs to; one of another model or tokenizer is refused.
struct StateOwner {
  std::string model_hash, tokenizer_hash;
};

struct SavedState {
  EngineState state;
  std::vector<float> logits;  // (V), after the last token
  DrawingState text;
  std::string text_hash;  // of the tokens so far
};

// Writes atomically: a safetensors file with "state" F32, "logits" F32 (V), "seen.ids" I32 and
// "seen.counts" F64, "held" U8 (the bytes of DrawingState::held), "prefix" I32, the rest as
// metadata. Throws FileError.
void write_state(const std::filesystem::path& path, const SavedState& saved,
                 const StateOwner& owner);
// `like` is a state of the model. Throws DataError naming the file and what does not fit, and
// FileError.
SavedState read_state(const std::filesystem::path& path, const StateOwner& owner,
                      const EngineState& like, std::int64_t vocab_size);

// The states after prompts' beginnings, at multiples of kPromptCacheStep tokens, in a folder of
// bounded size: what was used longest ago goes first. Damaged files are passed over. Several
// processes may share it. Where the folder cannot be written, a warning says so once, and the rest
// goes on without keeping anything.
class PromptCache {
 public:
  PromptCache(std::filesystem::path folder, std::int64_t bytes, StateOwner owner);
  // Sets `state` to that of the longest beginning of `tokens` (and not all of it) that is there;
  // returns how many tokens that is.
  std::int64_t find(std::span<const TokenId> tokens, EngineState& state) const;
  // Keeps the state after all of `tokens`.
  void keep(std::span<const TokenId> tokens, const EngineState& state) const;

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

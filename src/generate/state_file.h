// States of sequences in files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "generate/drawing.h"
#include "rwkvx/cores/state.h"

namespace rwkvx {

// What a state belongs to; one of another model or tokenizer is refused.
struct StateOwner {
  std::string model_hash, tokenizer_hash;
  std::vector<StateRow> rows;  // the model's: describe_state()
};

struct SavedState {
  PlainState state;
  std::vector<float> logits;  // (V), after the last token
  DrawingState text;
  std::string text_hash;  // of the tokens so far
};

// Writes atomically: a safetensors file with checksums, "format" "rwkvx state 2" in its metadata.
// It holds a float32 tensor for each row of the state under its name ("blocks.0.att.wkv"; rings
// oldest first), "logits" F32 (V), "seen.ids" I32 and "seen.counts" F64, "held" U8 (the bytes of
// DrawingState::held), "prefix" I32, and the rest as metadata; docs/engine.md. Throws FileError.
void write_state(const std::filesystem::path& path, const SavedState& saved,
                 const StateOwner& owner);
// Throws DataError naming the file and what does not fit, and FileError.
SavedState read_state(const std::filesystem::path& path, const StateOwner& owner,
                      std::int64_t vocab_size);

}  // namespace rwkvx

// Tokenizers in the formats of other tools.
#pragma once

#include <cstdint>
#include <filesystem>

#include "rwkvx/checkpoint/model_source.h"
#include "rwkvx/formats/gguf.h"

namespace rwkvx {

// Adds a tokenizer to the metadata of a GGUF; without one, or for a kind that llama.cpp has no
// place for beside RWKV, says that there is none. Whether it was added.
bool add_gguf_tokenizer(const Tokenizer* tokenizer, std::int64_t vocab_size,
                        GgufMetadata& metadata);

// Writes a tokenizer's files into a directory of the transformers library, with those that lay
// beside the source's. Whether there was a place for it.
bool write_hugging_face_tokenizer(const Tokenizer* tokenizer, const ModelSource& source,
                                  std::int64_t vocab_size, const std::filesystem::path& directory);

}  // namespace rwkvx

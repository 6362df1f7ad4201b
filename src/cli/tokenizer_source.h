// Which tokenizer a `--tokenizer` flag means.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "rwkvx/text/tokenizer.h"

namespace rwkvx {

inline constexpr const char* kTokenizerHelp =
    "tokenizer directory, sentencepiece .model, RWKV-World vocabulary .txt, or byte";

// A path, or "byte" where no file or directory has that name.
inline std::unique_ptr<Tokenizer> open_tokenizer(const std::string& name) {
  if (name == "byte" && !std::filesystem::exists(name)) return make_byte_tokenizer();
  return load_tokenizer(name);
}

}  // namespace rwkvx

// The kinds of tokenizer, for tokenizer.cpp, which puts them together.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "rwkvx/text/tokenizer.h"

namespace rwkvx {

// From the bytes of a model or vocabulary file; `where` names it in errors (DataError).
std::unique_ptr<Tokenizer> parse_sentencepiece(std::string model, const std::string& where);
std::unique_ptr<Tokenizer> parse_world_vocabulary(std::string vocabulary, const std::string& where);
std::unique_ptr<Tokenizer> parse_huggingface(std::string json, const std::string& where);
// Whether a JSON text looks like a tokenizer.json of Hugging Face, not one of ours.
bool is_huggingface(std::string_view json);

// "byte" or "ids:…" as load_tokenizer() knows them; null for other names.
std::unique_ptr<Tokenizer> tokenizer_by_name(std::string_view name);

// XXH3-128 over a kind and the bytes of its model.
std::string tokenizer_hash(const std::string& kind, std::string_view model);

// Writes tokenizer.json and, unless `file_name` is empty, the model file beside it.
void save_tokenizer(const Tokenizer& tokenizer, const std::filesystem::path& directory,
                    const std::string& file_name, std::string_view model);
// Writes a tokenizer.json that is a model itself.
void save_tokenizer_json(const std::filesystem::path& directory, std::string_view json);

}  // namespace rwkvx

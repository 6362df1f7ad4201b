#include "convert/tokenizer_files.h"

#include <array>
#include <string>
#include <utility>

#include "rwkvx/base/files.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/output_file.h"

namespace rwkvx {
namespace fs = std::filesystem;
namespace {

constexpr char kVocabularyFile[] = "rwkv_vocab_v20230424.txt";  // the name that others look for
constexpr std::int32_t kNormalToken = 1, kControlToken = 3, kUnusedToken = 5;

// A token's bytes in the form that llama.cpp's RWKV tokenizer reads: escapes as in Python.
std::string escaped(std::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const char letter : bytes) {
    const auto byte = static_cast<unsigned char>(letter);
    if (letter == '\t')
      out += "\\t";
    else if (letter == '\n')
      out += "\\n";
    else if (letter == '\r')
      out += "\\r";
    else if (letter == '\\')
      out += "\\\\";
    else if (byte < 0x20 || byte > 0x7e)
      ((out += "\\x") += kDigits[byte >> 4]) += kDigits[byte & 15];
    else
      out += letter;
  }
  return out;
}

}  // namespace

bool add_gguf_tokenizer(const Tokenizer* tokenizer, std::int64_t vocab_size,
                        GgufMetadata& metadata) {
  if (tokenizer == nullptr || (tokenizer->kind() != "world" && tokenizer->kind() != "byte")) {
    metadata.emplace_back("tokenizer.ggml.model", std::string("none"));
    return tokenizer == nullptr;
  }
  std::vector<std::string> tokens;
  std::vector<std::int32_t> types;
  const auto end = tokenizer->document_end();
  for (std::int64_t id = 0; id < vocab_size; ++id) {
    const auto piece =
        id < tokenizer->vocab_size() ? tokenizer->piece(static_cast<TokenId>(id)) : std::string();
    const bool control = id == end;
    tokens.push_back(control         ? "<s>"
                     : piece.empty() ? "[PAD" + std::to_string(id) + "]"
                                     : escaped(piece));
    types.push_back(control ? kControlToken : piece.empty() ? kUnusedToken : kNormalToken);
  }
  metadata.emplace_back("tokenizer.ggml.model", std::string("rwkv"));
  metadata.emplace_back(kGgufTokens, std::move(tokens));
  metadata.emplace_back("tokenizer.ggml.token_type", std::move(types));
  if (end == kNoToken) return true;
  for (const char* key : {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"})
    metadata.emplace_back(key, static_cast<std::uint32_t>(end));
  return true;
}

bool write_hugging_face_tokenizer(const Tokenizer* tokenizer, const ModelSource& source,
                                  std::int64_t vocab_size, const fs::path& directory) {
  if (source.kind == SourceKind::kHuggingFace)
    for (const char* name :
         {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
          "merges.txt", "chat_template.jinja", "generation_config.json"}) {
      std::error_code error;
      if (fs::is_regular_file(source.path / name, error))
        write_file(directory / name, read_file(source.path / name));
    }
  if (tokenizer == nullptr) return true;
  const TemporaryFolder folder;
  tokenizer->save(folder.path());
  const auto take = [&](const fs::path& from, const std::string& name) {
    write_file(directory / name, read_file(from));
  };
  if (tokenizer->kind() == "world") {
    for (const auto& entry : fs::directory_iterator(folder.path()))
      if (entry.path().extension() == ".txt") take(entry.path(), kVocabularyFile);
    std::error_code error;
    if (!fs::exists(directory / "tokenizer_config.json", error)) {
      const nlohmann::ordered_json config = {{"tokenizer_class", "RWKV7Tokenizer"},
                                             {"model_vocab_size", vocab_size},
                                             {"pad_token", "<|padding|>"},
                                             {"eos_token", "<|endoftext|>"},
                                             {"errors", "replace"}};
      write_file(directory / "tokenizer_config.json", config.dump(2) + "\n");
    }
    return true;
  }
  for (const auto& entry : fs::directory_iterator(folder.path()))
    if (entry.path().extension() == ".model") {
      take(entry.path(), "tokenizer.model");
      return true;
    }
  // A tokenizer.json of the tokenizers library is kept as it is; ours describes itself as "kind".
  const auto json = parse_json_or_null(read_file(folder.path() / "tokenizer.json"));
  if (!json.is_object() || json.contains("kind")) return false;
  take(folder.path() / "tokenizer.json", "tokenizer.json");
  return true;
}

}  // namespace rwkvx

#include "rwkvx/text/tokenizer.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "rwkvx/base/error.h"
#include "rwkvx/base/file_kind.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/output_file.h"
#include "tokenizers.h"

namespace rwkvx {
namespace {

constexpr const char* kDescription = "tokenizer.json";
constexpr const char* kExpected =
    "a tokenizer directory, a sentencepiece .model, an RWKV-World vocabulary .txt or a Hugging "
    "Face "
    "tokenizer.json";

// The kinds that are files; the first one is what a file of another ending is taken for.
constexpr struct {
  std::string_view kind, ending;
  std::unique_ptr<Tokenizer> (*parse)(std::string content, const std::string& where);
} kFileKinds[] = {{"sentencepiece", ".model", parse_sentencepiece},
                  {"world", ".txt", parse_world_vocabulary}};

class ByteTokenizer : public Tokenizer {
 public:
  explicit ByteTokenizer(bool has_end) : has_end_(has_end) {}
  std::vector<TokenId> encode(std::string_view text) const override {
    std::vector<TokenId> ids;
    ids.reserve(text.size());
    for (const char byte : text) ids.push_back(static_cast<unsigned char>(byte));
    return ids;
  }
  std::string piece(TokenId id) const override {
    if (id < 0 || id >= vocab_size())
      throw DataError("byte tokenizer", "id " + std::to_string(id) + " is not in 0 to " +
                                            std::to_string(vocab_size() - 1));
    return id == 256 ? std::string() : std::string(1, static_cast<char>(id));
  }
  std::int64_t vocab_size() const override { return has_end_ ? 257 : 256; }
  TokenId document_end() const override { return has_end_ ? 256 : kNoToken; }
  TokenId text_start() const override { return has_end_ ? 256 : '\n'; }
  std::string kind() const override { return "byte"; }
  std::string hash() const override { return tokenizer_hash("byte", has_end_ ? "" : "256"); }
  void save(const std::filesystem::path& directory) const override {
    save_tokenizer(*this, directory, "", "");
  }

 private:
  bool has_end_;
};

std::unique_ptr<Tokenizer> load_directory(const std::filesystem::path& directory) {
  const auto description_path = directory / kDescription;
  if (!std::filesystem::exists(description_path))
    throw DataError(directory.string(),
                    std::string("holds no ") + kDescription + "; expected " + kExpected);
  const std::string where = description_path.string();
  auto description = read_file(description_path);
  if (is_huggingface(description)) return parse_huggingface(std::move(description), where);
  const auto json = parse_json_or_null(description);
  const auto text = [&](const char* key) -> std::string {
    if (!json.is_object() || !json.contains(key) || !json[key].is_string())
      throw DataError(where, std::string("expected a JSON object with the string \"") + key + "\"");
    return json[key];
  };
  const std::string kind = text("kind");
  const auto number = [&](const char* key, std::int64_t otherwise) {
    return json.contains(key) && json[key].is_number_integer() ? json[key].get<std::int64_t>()
                                                               : otherwise;
  };
  if (kind == "byte") return make_byte_tokenizer(number("vocab_size", 257) != 256);
  if (kind == "ids")
    return make_ids_tokenizer(number("vocab_size", 0), number("document_end", kNoToken));
  const auto row = std::find_if(std::begin(kFileKinds), std::end(kFileKinds),
                                [&](const auto& one) { return one.kind == kind; });
  if (row == std::end(kFileKinds)) {
    std::string kinds = "byte or ids";
    for (const auto& one : kFileKinds) kinds += " or " + std::string(one.kind);
    throw DataError(where, "expected " + kinds + ", got \"" + kind + "\"");
  }
  const std::filesystem::path file = text("file");
  if (file.empty() || file != file.filename() || file == ".." || file == ".")
    throw DataError(where,
                    "expected \"file\" to name a file in the same directory, got " + file.string());
  const std::string path = (directory / file).string();
  std::string model = read_file(path);
  // Before parsing: a damaged model is named as damaged, not by whatever it breaks first.
  const std::string hash = tokenizer_hash(kind, model);
  if (text("hash") != hash)
    throw DataError(path,
                    "is damaged or not the file that tokenizer.json describes: expected hash " +
                        text("hash") + ", got " + hash);
  return row->parse(std::move(model), path);
}

}  // namespace

std::string Tokenizer::decode(const std::vector<TokenId>& ids) const {
  std::string text;
  bool at_start = true;
  for (const TokenId id : ids) text += piece_in_text(id, at_start);
  return text;
}

std::string Tokenizer::piece_in_text(TokenId id, bool& at_start) const {
  at_start = false;
  return piece(id);
}

std::unique_ptr<Tokenizer> make_byte_tokenizer(bool document_end) {
  return std::make_unique<ByteTokenizer>(document_end);
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored))
    if (auto tokenizer = tokenizer_by_name(path.string())) return tokenizer;
  if (std::filesystem::is_directory(path, ignored)) return load_directory(path);
  if (path.filename() == kDescription) return load_directory(path.parent_path());
  auto content = read_file(path);
  if (const auto kind = file_kind(content); !kind.empty())
    throw DataError(path.string(), "is " + kind + "; expected a tokenizer: " + kExpected);
  for (const auto& one : kFileKinds)
    if (path.extension() == one.ending) return one.parse(std::move(content), path.string());
  if (path.extension() == ".json") return parse_huggingface(std::move(content), path.string());
  return kFileKinds[0].parse(std::move(content), path.string());
}

std::string tokenizer_hash(const std::string& kind, std::string_view model) {
  Hasher hasher;
  hasher.add(kind);
  hasher.add(std::string_view("\0", 1));
  hasher.add(model);
  return hasher.hex();
}

void save_tokenizer_json(const std::filesystem::path& directory, std::string_view json) {
  write_file(directory / kDescription, json);
}

void save_tokenizer(const Tokenizer& tokenizer, const std::filesystem::path& directory,
                    const std::string& file_name, std::string_view model) {
  nlohmann::ordered_json json{{"kind", tokenizer.kind()},
                              {"vocab_size", tokenizer.vocab_size()},
                              {"document_end", tokenizer.document_end()},
                              {"hash", tokenizer.hash()}};
  if (!file_name.empty()) {
    json["file"] = file_name;
    write_file(directory / file_name, model);
  }
  write_file(directory / kDescription, json.dump(2) + "\n");
}

}  // namespace rwkvx

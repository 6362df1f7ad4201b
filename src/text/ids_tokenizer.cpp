// Sequences that are numbers already: music, proteins, sensors. Their text is the numbers.
#include <algorithm>
#include <charconv>

#include "rwkvx/base/error.h"
#include "tokenizers.h"

namespace rwkvx {
namespace {

constexpr std::string_view kBetween = " \t\r\n,[]";

class IdsTokenizer : public Tokenizer {
 public:
  IdsTokenizer(std::int64_t count, TokenId document_end)
      : vocab_size_(std::max<std::int64_t>(count, document_end + 1)),
        document_end_(document_end),
        hash_(tokenizer_hash("ids",
                             std::to_string(vocab_size_) + " " + std::to_string(document_end_))) {}

  std::vector<TokenId> encode(std::string_view text) const override {
    std::vector<TokenId> ids;
    for (auto begin = text.find_first_not_of(kBetween); begin != std::string_view::npos;) {
      const auto end = std::min(text.find_first_of(kBetween, begin), text.size());
      TokenId id = 0;
      const auto [stop, error] = std::from_chars(text.data() + begin, text.data() + end, id);
      if (error != std::errc() || stop != text.data() + end || id < 0 || id >= vocab_size_)
        throw DataError(
            "ids tokenizer",
            "number " + std::to_string(ids.size() + 1) + " of a sequence is \"" +
                std::string(text.substr(begin, std::min<std::size_t>(end - begin, 20))) +
                "\", expected 0 to " + std::to_string(vocab_size_ - 1));
      ids.push_back(id);
      begin = text.find_first_not_of(kBetween, end);
    }
    return ids;
  }
  std::string piece(TokenId id) const override {
    if (id < 0 || id >= vocab_size_)
      throw DataError("ids tokenizer", "id " + std::to_string(id) + " is not in 0 to " +
                                           std::to_string(vocab_size_ - 1));
    return id == document_end_ ? std::string() : " " + std::to_string(id);
  }
  std::string piece_in_text(TokenId id, bool& at_start) const override {
    auto text = piece(id);
    if (at_start && !text.empty()) {
      text.erase(0, 1);
      at_start = false;
    }
    return text;
  }
  std::int64_t vocab_size() const override { return vocab_size_; }
  bool lossless() const override { return false; }
  TokenId document_end() const override { return document_end_; }
  TokenId text_start() const override { return std::max(document_end_, 0); }
  std::string kind() const override { return "ids"; }
  std::string hash() const override { return hash_; }
  void save(const std::filesystem::path& directory) const override {
    save_tokenizer(*this, directory, "", "");
  }

 private:
  std::int64_t vocab_size_;
  TokenId document_end_;
  std::string hash_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_ids_tokenizer(std::int64_t count, std::int64_t document_end) {
  if (count < 1 || count > kMostIds || document_end < kNoToken || document_end > kMostIds)
    throw DataError("ids tokenizer", "expected 1 to " + std::to_string(kMostIds) +
                                         " ids and a document end of at most that, got " +
                                         std::to_string(count) + " and " +
                                         std::to_string(document_end));
  return std::make_unique<IdsTokenizer>(count, static_cast<TokenId>(document_end));
}

std::unique_ptr<Tokenizer> tokenizer_by_name(std::string_view name) {
  if (name == "byte") return make_byte_tokenizer();
  if (!name.starts_with("ids:")) return nullptr;
  const auto colon = std::min(name.find(':', 4), name.size());
  const auto number = [&](std::string_view text) {
    std::int64_t value = 0;
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || stop != text.data() + text.size() || value < 0)
      throw DataError(
          std::string(name),
          "expected ids:COUNT, ids:COUNT:END or ids:COUNT:none, as in ids:512, where END "
          "is the id that ends documents; without it that is one more id, COUNT");
    return value;
  };
  const auto count = number(name.substr(4, colon - 4));
  if (colon == name.size()) return make_ids_tokenizer(count, count);
  const auto end = name.substr(colon + 1);
  return make_ids_tokenizer(count, end == "none" ? kNoToken : number(end));
}

}  // namespace rwkvx

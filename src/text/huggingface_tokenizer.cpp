// tokenizer.json of the library Hugging Face tokenizers, as far as it describes byte-level BPE: see
// docs/tokenizers.md for what is read. Whatever else stands in such a file is refused by its name,
// as leaving it out would give other ids.
#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>
#include <optional>
#include <unordered_map>

#include "bpe.h"
#include "byte_trie.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/json_line.h"
#include "rwkvx/base/utf8.h"
#include "tokenizers.h"
#include "unicode.h"
#include "words.h"

namespace rwkvx {
namespace {

// What ends a document where the file has one of these among its added tokens; the first counts.
constexpr std::string_view kDocumentEnds[] = {"<|endoftext|>", "<|end_of_text|>", "</s>",
                                              "<eos>",         "<|eos|>",         "[EOS]"};

constexpr std::size_t kMissingIds = 4096;  // that a file may leave out

// A JSON object of the file and where it stands. All errors are DataErrors that name the member.
class Section {
 public:
  Section(std::string_view json, const std::string& file, std::string path)
      : file_(file), path_(std::move(path)) {
    if (!json.starts_with('{') && !path_.empty())
      throw DataError(file_, path_ + ": expected an object, got " + json_kind_name(json));
    try {
      line_.read(json);
    } catch (const JsonLineError& error) {
      throw DataError(file_, "is not valid JSON: " + std::string(error.what()));
    }
  }
  // Throws where a member has none of these names.
  void allow(std::initializer_list<std::string_view> names) const {
    for (const auto& name : line_.names())
      if (std::find(names.begin(), names.end(), name) == names.end())
        throw DataError(file_, this->name(name) + " is not supported (see docs/tokenizers.md)");
  }
  bool has(std::string_view name) const {
    const auto value = line_.find(name);
    return !value.empty() && value != "null";
  }
  // The value of a member as it is written; "null" where there is none.
  std::string_view value(std::string_view name) const {
    const auto value = line_.find(name);
    return value.empty() ? std::string_view("null") : value;
  }
  Section section(std::string_view name) const {
    return {value(name), file_, path_ + (path_.empty() ? "" : ".") + std::string(name)};
  }
  std::string text(std::string_view name) const {
    const auto value = this->value(name);
    if (!value.starts_with('"')) wrong(name, "a string");
    return string_of(value);
  }
  bool flag(std::string_view name, bool otherwise) const {
    if (!has(name)) return otherwise;
    const auto value = this->value(name);
    if (value != "true" && value != "false") wrong(name, "true or false");
    return value == "true";
  }
  std::int64_t integer(std::string_view name) const { return integer_of(value(name), name); }
  std::int64_t integer_of(std::string_view value, std::string_view name) const {
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size())
      throw DataError(file_, this->name(name) + ": expected an integer, got " +
                                 std::string(value.substr(0, 40)));
    return number;
  }
  std::vector<std::string_view> items(std::string_view name) const {
    const auto value = this->value(name);
    if (!value.starts_with('[')) wrong(name, "an array");
    std::vector<std::string_view> items;
    json_items(value, items);
    return items;
  }
  // Throws unless a member is absent, null or this value.
  void require(std::string_view name, std::string_view value) const {
    if (has(name) && this->value(name) != value)
      throw DataError(file_, this->name(name) + " = " +
                                 std::string(this->value(name).substr(0, 40)) +
                                 " is not supported; expected " + std::string(value));
  }
  // Throws unless a member is this text.
  void require_text(std::string_view name, std::string_view wanted) const {
    if (text(name) != wanted)
      throw DataError(file_, this->name(name) + " = \"" + text(name).substr(0, 40) +
                                 "\" is not supported; expected \"" + std::string(wanted) + "\"");
  }
  // Throws unless a member is absent, null or the empty text.
  void require_no_text(std::string_view name) const {
    if (has(name) && value(name) != "\"\"")
      throw DataError(file_, this->name(name) + " is not supported");
  }
  const std::vector<std::pair<std::string_view, std::string_view>>& members() const {
    return line_.members();
  }
  std::string name(std::string_view member) const {
    return path_ + (path_.empty() || member.empty() ? "" : ".") + std::string(member);
  }
  const std::string& file() const { return file_; }
  static std::string string_of(std::string_view value) {
    std::string room;
    room.reserve(value.size());
    return std::string(json_text(value, room));
  }

 private:
  [[noreturn]] void wrong(std::string_view name, const char* expected) const {
    throw DataError(file_, this->name(name) + ": expected " + expected + ", got " +
                               (has(name) ? json_kind_name(value(name)) : "nothing"));
  }
  const std::string& file_;
  std::string path_;
  JsonLine line_;
};

// Byte-level tokens are written with a printable character for each byte: itself where it is one in
// Latin-1, else the next free one from U+0100 on.
class ByteAlphabet {
 public:
  ByteAlphabet() {
    bytes_.fill(-1);
    std::uint32_t next = 256;
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
      bytes_[printable ? byte : next++] = static_cast<int>(byte);
    }
  }
  // The bytes of a token, or none where it has a character that stands for no byte.
  std::optional<std::string> bytes_of(std::string_view token) const {
    std::vector<std::uint32_t> codes;
    decode_utf8(token, codes);
    std::string bytes;
    for (const auto code : codes) {
      if (code >= bytes_.size() || bytes_[code] < 0) return std::nullopt;
      bytes += static_cast<char>(bytes_[code]);
    }
    return bytes;
  }

 private:
  std::array<int, 256 + 68> bytes_;
};

struct AddedToken {
  TokenId id;
  std::string content;
  bool special, normalized;
};

class HuggingFaceTokenizer : public Tokenizer {
 public:
  HuggingFaceTokenizer(std::string json, const std::string& where) : json_(std::move(json)) {
    const Section file(json_, where, "");
    if (!file.has("model"))
      throw DataError(where, "is not a Hugging Face tokenizer.json: it has no \"model\"");
    file.allow({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                "post_processor", "decoder", "model"});
    file.require("version", "\"1.0\"");
    file.require("truncation", "null");
    file.require("padding", "null");
    read_normalizer(file);
    read_pre_tokenizer(file);
    if (file.has("post_processor")) read_byte_level(file.section("post_processor"));
    read_byte_level(file.section("decoder"));
    read_added_tokens(file);
    read_model(file.section("model"));
    build_added(where);
    hash_ = tokenizer_hash("huggingface", json_);
  }

  std::vector<TokenId> encode(std::string_view text) const override {
    std::vector<TokenId> ids;
    ids.reserve(text.size() / 3);
    std::string room;
    for_each_part(text, exact_, ids, [&](std::string_view part) {
      if (part.empty()) return;
      const auto normal = composes_ ? compose(part, room) : part;
      for_each_part(normal, normalized_, ids,
                    [&](std::string_view rest) { encode_plain(rest, ids); });
    });
    return ids;
  }
  std::string piece(TokenId id) const override {
    if (id < 0 || id >= vocab_size())
      throw DataError("tokenizer.json", "id " + std::to_string(id) + " is not in 0 to " +
                                            std::to_string(vocab_size() - 1));
    const auto at = static_cast<std::size_t>(id);
    return text_.substr(ends_[at], ends_[at + 1] - ends_[at]);
  }
  std::int64_t vocab_size() const override { return static_cast<std::int64_t>(ends_.size()) - 1; }
  bool lossless() const override {
    return !composes_ && !prefix_space_ &&
           std::find(bytes_.begin(), bytes_.end(), -1) == bytes_.end();
  }
  TokenId document_end() const override { return document_end_; }
  std::string kind() const override { return "huggingface"; }
  std::string hash() const override { return hash_; }
  void save(const std::filesystem::path& directory) const override {
    save_tokenizer_json(directory, json_);
  }

 private:
  // Added tokens that are looked for in a text.
  struct Finder {
    ByteTrie trie;  // values: id + 1
    std::array<bool, 256> first{};
    bool empty = true;
  };

  void read_normalizer(const Section& file) {
    if (!file.has("normalizer")) return;
    const auto section = file.section("normalizer");
    if (section.text("type") == "Sequence") {
      section.allow({"type", "normalizers"});
      for (const auto item : section.items("normalizers"))
        read_nfc({item, file.file(), "normalizer.normalizers"});
    } else {
      read_nfc(section);
    }
  }
  void read_nfc(const Section& section) {
    section.require_text("type", "NFC");
    section.allow({"type"});
    composes_ = true;
  }

  void read_pre_tokenizer(const Section& file) {
    const auto section = file.section("pre_tokenizer");
    if (section.text("type") != "Sequence") return read_words(section);
    section.allow({"type", "pretokenizers"});
    const auto items = section.items("pretokenizers");
    if (items.size() != 1)
      throw DataError(file.file(), "pre_tokenizer.pretokenizers: expected ByteLevel alone, got " +
                                       std::to_string(items.size()) + " pre-tokenizers");
    read_words({items[0], file.file(), "pre_tokenizer.pretokenizers"});
  }
  void read_words(const Section& section) {
    read_byte_level(section);
    prefix_space_ = section.flag("add_prefix_space", true);
    cuts_words_ = section.flag("use_regex", true);
  }
  // In a post-processor and a decoder the settings change no ids and no text.
  static void read_byte_level(const Section& section) {
    section.require_text("type", "ByteLevel");
    section.allow({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  }

  void read_added_tokens(const Section& file) {
    if (!file.has("added_tokens")) return;
    for (const auto item : file.items("added_tokens")) {
      const Section section(item, file.file(), "added_tokens");
      section.allow({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
      for (const char* name : {"single_word", "lstrip", "rstrip"}) section.require(name, "false");
      AddedToken token{check_id(section.integer("id"), file.file()), section.text("content"),
                       section.flag("special", false), section.flag("normalized", true)};
      if (token.content.empty()) throw DataError(file.file(), "added_tokens: a token is empty");
      added_.push_back(std::move(token));
    }
  }

  static TokenId check_id(std::int64_t id, const std::string& file) {
    if (id < 0 || id >= ByteTrie::kLargestValue)
      throw DataError(file, "id " + std::to_string(id) + " is not in 0 to " +
                                std::to_string(ByteTrie::kLargestValue - 1));
    return static_cast<TokenId>(id);
  }

  void read_model(const Section& model) {
    const auto& file = model.file();
    model.allow({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                 "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
    if (model.has("type")) model.require_text("type", "BPE");
    for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"})
      model.require_no_text(name);
    if (model.has("dropout") && model.value("dropout") != "0.0") model.require("dropout", "0");
    model.require("byte_fallback", "false");
    whole_words_ = model.flag("ignore_merges", false);

    const auto vocab = model.section("vocab");
    std::vector<std::string> tokens;  // the views in `ids` are of these
    tokens.reserve(vocab.members().size());
    std::unordered_map<std::string_view, TokenId> ids;
    ids.reserve(vocab.members().size());
    TokenId most = 0;
    for (const auto& [name, value] : vocab.members()) {
      const auto id = check_id(vocab.integer_of(value, ""), file);
      tokens.push_back(Section::string_of(name));
      if (!ids.emplace(tokens.back(), id).second)
        throw DataError(file,
                        "model.vocab has the token \"" + tokens.back().substr(0, 40) + "\" twice");
      most = std::max(most, id);
    }
    for (const auto& token : added_) most = std::max(most, token.id);
    // No id can ask for much more memory than the file has.
    if (const auto count = ids.size() + added_.size();
        static_cast<std::size_t>(most) > 2 * count + kMissingIds)
      throw DataError(file, "has id " + std::to_string(most) + ", but only " +
                                std::to_string(count) + " tokens");
    read_pieces(ids, most, file);
    read_merges(model, ids);
  }

  void read_pieces(const std::unordered_map<std::string_view, TokenId>& ids, TokenId most,
                   const std::string& file) {
    std::vector<std::string> pieces(static_cast<std::size_t>(most) + 1);
    std::vector<bool> known(pieces.size());
    bytes_.fill(-1);
    for (const auto& [token, id] : ids) {
      const auto at = static_cast<std::size_t>(id);
      if (known[at]) throw DataError(file, "model.vocab has id " + std::to_string(id) + " twice");
      known[at] = true;
      const auto bytes = alphabet_.bytes_of(token);
      pieces[at] = bytes ? *bytes : std::string(token);
      if (bytes && bytes->size() == 1) bytes_[static_cast<unsigned char>(bytes->front())] = id;
    }
    // Files of some models leave out the bytes that no character has.
    for (int byte = 0; byte < 0xF5; ++byte)
      if (bytes_[static_cast<std::size_t>(byte)] < 0 && byte != 0xC0 && byte != 0xC1)
        throw DataError(file, "model.vocab has no token for the single byte " +
                                  std::to_string(byte) + ", so not every text could be encoded");
    for (const auto& token : added_) pieces[static_cast<std::size_t>(token.id)] = token.content;
    find_document_end(file);
    pieces[static_cast<std::size_t>(document_end_)].clear();
    if (whole_words_) read_whole_words(ids);
    ends_.push_back(0);
    for (const auto& piece : pieces) {
      text_ += piece;
      ends_.push_back(text_.size());
    }
  }

  void find_document_end(const std::string& file) {
    for (const auto name : kDocumentEnds)
      for (const auto& token : added_)
        if (token.content == name) {
          document_end_ = token.id;
          return;
        }
    std::string names;
    for (const auto name : kDocumentEnds) names += (names.empty() ? "" : ", ") + std::string(name);
    throw DataError(file,
                    "has no token that ends documents: added_tokens should hold one of " + names);
  }

  // Words that are tokens themselves, however they would be merged.
  void read_whole_words(const std::unordered_map<std::string_view, TokenId>& ids) {
    std::vector<std::pair<std::string, TokenId>> words;
    for (const auto& [token, id] : ids)
      if (auto bytes = alphabet_.bytes_of(token); bytes && !bytes->empty())
        words.emplace_back(std::move(*bytes), id);
    words_ = trie_of(words);
  }
  static ByteTrie trie_of(std::vector<std::pair<std::string, TokenId>>& words) {
    std::sort(words.begin(), words.end());
    std::vector<std::pair<std::string_view, std::uint32_t>> views;
    for (const auto& [word, id] : words)
      views.emplace_back(word, static_cast<std::uint32_t>(id) + 1);
    return ByteTrie(views);
  }

  void read_merges(const Section& model, const std::unordered_map<std::string_view, TokenId>& ids) {
    const auto id_of = [&](std::string_view token, std::size_t number) {
      const auto found = ids.find(token);
      if (found == ids.end())
        throw DataError(model.file(), "model.merges: entry " + std::to_string(number) +
                                          " needs the token \"" + std::string(token.substr(0, 40)) +
                                          "\", which model.vocab has not");
      return found->second;
    };
    std::vector<BytePairs::Merge> merges;
    std::vector<std::string_view> parts;
    for (const auto item : model.items("merges")) {
      const auto number = merges.size();
      const auto wrong = [&] {
        return DataError(model.file(),
                         "model.merges: entry " + std::to_string(number) +
                             ": expected two tokens, \"A B\" or [\"A\", \"B\"], got " +
                             std::string(item.substr(0, 40)));
      };
      std::string first, second;
      if (item.starts_with('"')) {
        const auto both = Section::string_of(item);
        const auto space = both.find(' ');
        if (space == std::string::npos || both.find(' ', space + 1) != std::string::npos)
          throw wrong();
        first = both.substr(0, space);
        second = both.substr(space + 1);
      } else {
        parts.clear();
        if (item.starts_with('[')) json_items(item, parts);
        if (parts.size() != 2 || !parts[0].starts_with('"') || !parts[1].starts_with('"'))
          throw wrong();
        first = Section::string_of(parts[0]);
        second = Section::string_of(parts[1]);
      }
      merges.push_back(
          {id_of(first, number), id_of(second, number), id_of(first + second, number)});
    }
    pairs_.emplace(bytes_, merges);
  }

  // Tokens that are matched in the text as it is, and those that are matched in the normal form.
  void build_added(const std::string& where) {
    std::vector<std::pair<std::string, TokenId>> exact, normalized;
    for (const auto& token : added_) {
      std::string room;
      auto& words = token.normalized ? normalized : exact;
      words.emplace_back(
          token.normalized && composes_ ? compose(token.content, room) : token.content, token.id);
    }
    for (auto* words : {&exact, &normalized}) {
      auto& finder = words == &exact ? exact_ : normalized_;
      std::sort(words->begin(), words->end());
      for (std::size_t i = 1; i < words->size(); ++i)
        if ((*words)[i].first == (*words)[i - 1].first)
          throw DataError(where, "added_tokens has the token \"" + (*words)[i].first.substr(0, 40) +
                                     "\" twice");
      finder.trie = trie_of(*words);
      finder.empty = words->empty();
      for (const auto& [word, id] : *words)
        finder.first[static_cast<unsigned char>(word.front())] = true;
    }
  }

  // Calls use() with the text between added tokens, whose ids it appends.
  template <class Use>
  static void for_each_part(std::string_view text, const Finder& finder, std::vector<TokenId>& ids,
                            const Use& use) {
    std::size_t begin = 0;
    for (std::size_t at = finder.empty ? text.size() : 0; at < text.size();) {
      if (!finder.first[static_cast<unsigned char>(text[at])]) {
        ++at;
        continue;
      }
      const auto match = finder.trie.longest(text.substr(at));
      if (match.value == 0) {
        ++at;
        continue;
      }
      use(text.substr(begin, at - begin));
      ids.push_back(static_cast<TokenId>(match.value) - 1);
      begin = at += match.length;
    }
    use(text.substr(begin));
  }

  void encode_plain(std::string_view text, std::vector<TokenId>& ids) const {
    if (text.empty()) return;
    auto& cache = pairs_->cache();
    std::string prefixed;
    if (prefix_space_ && text.front() != ' ') text = prefixed = " " + std::string(text);
    while (!text.empty()) {
      const auto length = cuts_words_ ? first_word(text) : text.size();
      const auto word = text.substr(0, length);
      text.remove_prefix(length);
      if (whole_words_) {
        const auto match = words_.longest(word);
        if (match.value != 0 && match.length == word.size()) {
          ids.push_back(static_cast<TokenId>(match.value) - 1);
          continue;
        }
      }
      pairs_->encode(word, cache, ids);
    }
  }

  std::string json_, hash_;
  const ByteAlphabet alphabet_;
  bool composes_ = false, prefix_space_ = false, cuts_words_ = true, whole_words_ = false;
  std::vector<AddedToken> added_;
  Finder exact_, normalized_;
  ByteTrie words_;
  std::array<TokenId, 256> bytes_;
  std::optional<BytePairs> pairs_;
  std::string text_;               // all pieces, one after the other
  std::vector<std::size_t> ends_;  // where each begins, and where the last ends
  TokenId document_end_ = 0;
};

}  // namespace

std::unique_ptr<Tokenizer> parse_huggingface(std::string json, const std::string& where) {
  return std::make_unique<HuggingFaceTokenizer>(std::move(json), where);
}

bool is_huggingface(std::string_view json) {
  JsonLine line;
  try {
    line.read(json);
  } catch (const JsonLineError&) {
    return false;
  }
  return !line.find("model").empty();
}

}  // namespace rwkvx

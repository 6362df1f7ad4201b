// The tokenizer of the RWKV-World models: greedy longest match over bytes, without normalization.
#include <algorithm>
#include <charconv>

#include "byte_trie.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/text_file.h"
#include "rwkvx/base/utf8.h"
#include "tokenizers.h"

namespace rwkvx {
namespace {

constexpr std::int64_t kVocabSize = 65536;
constexpr TokenId kDocumentEnd = 0;

struct Entry {
  TokenId id;
  std::string bytes;
};

// A Python literal, '…' "…" b'…' or b"…" as repr() prints it, to its bytes.
std::string parse_literal(std::string_view literal, const std::string& where) {
  const bool raw = literal.starts_with('b');
  std::string_view body = literal.substr(raw ? 1 : 0);
  if (body.size() < 2 || (body.front() != '\'' && body.front() != '"') ||
      body.back() != body.front())
    throw DataError(where, "expected a quoted Python literal between the id and the length");
  const char quote = body.front();
  body = body.substr(1, body.size() - 2);
  std::string bytes;
  for (std::size_t place = 0; place < body.size();) {
    const char letter = body[place++];
    if (letter == quote) throw DataError(where, "the literal has text after its closing quote");
    if (letter != '\\') {
      bytes += letter;
      continue;
    }
    if (place == body.size()) throw DataError(where, "the literal ends inside an escape");
    const char escape = body[place++];
    const std::size_t digits = escape == 'x' ? 2 : escape == 'u' ? 4 : escape == 'U' ? 8 : 0;
    if (digits == 0 || (raw && escape != 'x')) {
      static constexpr std::string_view kNames = "tnr\\'\"", kValues = "\t\n\r\\'\"";
      const auto which = kNames.find(escape);
      if (which == std::string_view::npos)
        throw DataError(where, std::string("unknown escape \\") + escape + " in the literal");
      bytes += kValues[which];
      continue;
    }
    std::uint32_t code = 0;
    const std::string_view hex = body.substr(place, digits);
    const auto [end, error] = std::from_chars(hex.data(), hex.data() + hex.size(), code, 16);
    if (hex.size() != digits || error != std::errc() || end != hex.data() + digits)
      throw DataError(where, std::string("expected ") + std::to_string(digits) +
                                 " hexadecimal digits after \\" + escape);
    place += digits;
    if (raw) {
      bytes += static_cast<char>(code);
    } else if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
      throw DataError(where,
                      "\\" + std::string(1, escape) + std::string(hex) + " is not a character");
    } else {
      append_utf8(code, bytes);
    }
  }
  return bytes;
}

std::int64_t parse_number(std::string_view text, const std::string& where, const char* what) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size())
    throw DataError(where, std::string("expected ") + what + ", got \"" +
                               std::string(text.substr(0, 20)) + "\"");
  return value;
}

// "ID LITERAL BYTES"; the literal itself may hold spaces.
Entry parse_line(std::string_view line, const std::string& where) {
  const auto first = line.find(' '), last = line.rfind(' ');
  if (first == std::string_view::npos || first == last)
    throw DataError(where, "expected \"ID LITERAL BYTES\" separated by spaces");
  const auto id = parse_number(line.substr(0, first), where, "an id");
  const auto length = parse_number(line.substr(last + 1), where, "a length in bytes");
  if (id < 1 || id >= kVocabSize)
    throw DataError(where, "id " + std::to_string(id) + " is not in 1 to 65535");
  Entry entry{static_cast<TokenId>(id),
              parse_literal(line.substr(first + 1, last - first - 1), where)};
  if (entry.bytes.empty()) throw DataError(where, "the literal is empty");
  if (static_cast<std::int64_t>(entry.bytes.size()) != length)
    throw DataError(where, "the literal has " + std::to_string(entry.bytes.size()) +
                               " bytes, but the line says " + std::to_string(length));
  return entry;
}

class WorldTokenizer : public Tokenizer {
 public:
  WorldTokenizer(std::string vocabulary, const std::string& where)
      : vocabulary_(std::move(vocabulary)), pieces_(kVocabSize) {
    std::vector<Entry> entries = parse(where);
    for (const Entry& entry : entries) pieces_[static_cast<std::size_t>(entry.id)] = entry.bytes;
    std::sort(entries.begin(), entries.end(),
              [](const Entry& a, const Entry& b) { return a.bytes < b.bytes; });
    for (std::size_t i = 1; i < entries.size(); ++i)
      if (entries[i].bytes == entries[i - 1].bytes)
        throw DataError(where, "ids " + std::to_string(std::min(entries[i - 1].id, entries[i].id)) +
                                   " and " +
                                   std::to_string(std::max(entries[i - 1].id, entries[i].id)) +
                                   " are the same text");
    std::vector<std::pair<std::string_view, std::uint32_t>> strings;
    strings.reserve(entries.size());
    for (const Entry& entry : entries)
      strings.emplace_back(entry.bytes, static_cast<std::uint32_t>(entry.id));
    trie_ = ByteTrie(strings);
    for (int byte = 0; byte < 256; ++byte)
      if (trie_.longest(std::string(1, static_cast<char>(byte))).value == 0)
        throw DataError(where, "no id stands for the single byte " + std::to_string(byte) +
                                   ", so not every text could be encoded");
  }

  std::vector<TokenId> encode(std::string_view text) const override {
    std::vector<TokenId> ids;
    ids.reserve(text.size() / 3);
    while (!text.empty()) {
      const auto match = trie_.longest(text);
      ids.push_back(static_cast<TokenId>(match.value));
      text.remove_prefix(match.length);
    }
    return ids;
  }

  std::string piece(TokenId id) const override {
    if (id < 0 || id >= kVocabSize)
      throw DataError("world tokenizer", "id " + std::to_string(id) + " is not in 0 to 65535");
    return pieces_[static_cast<std::size_t>(id)];
  }
  std::int64_t vocab_size() const override { return kVocabSize; }
  TokenId document_end() const override { return kDocumentEnd; }
  std::string kind() const override { return "world"; }
  std::string hash() const override { return hash_; }
  void save(const std::filesystem::path& directory) const override {
    save_tokenizer(*this, directory, "vocabulary.txt", vocabulary_);
  }

 private:
  std::vector<Entry> parse(const std::string& where) const {
    std::vector<Entry> entries;
    std::string_view rest = vocabulary_;
    if (rest.starts_with(kByteOrderMark)) rest.remove_prefix(kByteOrderMark.size());
    for (std::int64_t number = 1; !rest.empty(); ++number) {
      const auto end = std::min(rest.find('\n'), rest.size());
      std::string_view line = rest.substr(0, end);
      rest.remove_prefix(std::min(end + 1, rest.size()));
      if (line.ends_with('\r')) line.remove_suffix(1);
      const std::string place = where + ":" + std::to_string(number);
      // Editors end a file with blank lines; between two entries one is a slip.
      constexpr const char* kBlank = " \t\r\n";
      if (line.find_first_not_of(kBlank) == std::string_view::npos &&
          rest.find_first_not_of(kBlank) == std::string_view::npos)
        break;
      Entry entry = parse_line(line, place);
      if (!entries.empty() && entry.id <= entries.back().id)
        throw DataError(place, "id " + std::to_string(entry.id) + " does not come after " +
                                   std::to_string(entries.back().id));
      entries.push_back(std::move(entry));
    }
    if (entries.empty())
      throw DataError(where, "expected an RWKV-World vocabulary, got an empty file");
    return entries;
  }

  std::string vocabulary_;
  std::vector<std::string> pieces_;
  std::string hash_ = tokenizer_hash("world", vocabulary_);
  ByteTrie trie_;
};

}  // namespace

std::unique_ptr<Tokenizer> parse_world_vocabulary(std::string vocabulary,
                                                  const std::string& where) {
  return std::make_unique<WorldTokenizer>(std::move(vocabulary), where);
}

}  // namespace rwkvx

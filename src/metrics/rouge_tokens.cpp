#include "rwkvx/metrics/rouge_tokens.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "rwkvx/base/utf8.h"
#include "rwkvx/metrics/porter.h"
#include "rwkvx/metrics/unicode.h"

namespace rwkvx {
namespace {

static_assert(std::endian::native == std::endian::little,
              "words are compared and scanned as little-endian machine words");

// Words kept from one group to the next, and the letters of long ones.
constexpr std::size_t kWordsKept = std::size_t{1} << 18;
constexpr std::size_t kLettersKept = std::size_t{1} << 24;
// Bytes behind the text that can be read (and are 0).
constexpr std::size_t kPadding = 64;

std::uint64_t load(const char* bytes) {
  std::uint64_t value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

// What the first and the second eight bytes of a word of 0 to 16 bytes are masked with: a table,
// because lengths are too irregular for branches.
struct WordMasks {
  std::uint64_t first[17], second[17];
  constexpr WordMasks() : first{}, second{} {
    for (unsigned length = 0; length <= 16; ++length) {
      first[length] = length >= 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * length)) - 1;
      second[length] = length >= 16  ? ~std::uint64_t{0}
                       : length <= 8 ? 0
                                     : (std::uint64_t{1} << (8 * (length - 8))) - 1;
    }
  }
};
constexpr WordMasks kMasks;

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a ^ 0x9e3779b97f4a7c15U) * (b ^ 0xd1b54a32d192ed03U);
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

std::uint64_t hash_long(const char* word, std::size_t length) {
  std::uint64_t hash = length;
  std::size_t i = 0;
  for (; i + 8 <= length; i += 8) hash = mix(hash, load(word + i));
  std::uint64_t rest = 0;
  std::memcpy(&rest, word + i, length - i);
  return mix(hash, rest);
}

// Lower-case letters and digits stay, capitals become small, everything else 0. Written without
// branches or a table so that the compiler does many bytes at once.
void plain_ascii(const char* text, std::size_t size, char* plain) {
  for (std::size_t i = 0; i < size; ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const auto small = static_cast<unsigned char>(c | 0x20);
    const bool letter = static_cast<unsigned char>(small - 'a') < 26;
    const bool digit = static_cast<unsigned char>(c - '0') < 10;
    plain[i] = static_cast<char>(letter ? small : digit ? c : 0);
  }
}

// The two characters beyond ASCII whose lower-case form has a letter of a-z.
constexpr std::string_view kKelvin = "\xe2\x84\xaa", kDottedI = "\xc4\xb0";

std::string rewrite_special(std::string_view text) {
  std::string rewritten;
  for (std::size_t i = 0; i < text.size();) {
    const auto rest = text.substr(i);
    if (rest.starts_with(kKelvin)) {
      rewritten += 'k';
      i += kKelvin.size();
    } else if (rest.starts_with(kDottedI)) {
      rewritten += "i ";  // the combining dot separates
      i += kDottedI.size();
    } else {
      rewritten += text[i++];
    }
  }
  return rewritten;
}

}  // namespace

RougeTokenizer::RougeTokenizer(RougeTokens options) : options_(std::move(options)) {}

void RougeTokenizer::Table::clear() {
  entries_.assign(1024, Entry{});
  entries_.shrink_to_fit();
  used_ = 0;
  letters_.clear();
  letters_.shrink_to_fit();
}

void RougeTokenizer::Table::grow() {
  std::vector<Entry> old(entries_.size() * 2, Entry{});
  old.swap(entries_);
  const std::size_t mask = entries_.size() - 1;
  for (const auto& entry : old) {
    if (entry.length == 0) continue;
    std::size_t at = entry.length <= 16 ? mix(entry.key[0], entry.key[1]) : entry.key[0];
    while (entries_[at & mask].length != 0) ++at;
    entries_[at & mask] = entry;
  }
}

inline std::uint32_t& RougeTokenizer::Table::find(const char* word, std::size_t length,
                                                  bool& fresh) {
  if (used_ * 2 >= entries_.size()) grow();
  const std::size_t mask = entries_.size() - 1;
  if (length <= 16) {
    const std::uint64_t first = load(word) & kMasks.first[length];
    const std::uint64_t second = load(word + 8) & kMasks.second[length];
    for (std::size_t at = mix(first, second);; ++at) {
      auto& entry = entries_[at & mask];
      if (entry.key[0] == first && entry.key[1] == second && entry.length == length)
        return entry.value;
      if (entry.length != 0) continue;
      fresh = true;
      ++used_;
      entry = {{first, second}, static_cast<std::uint32_t>(length), 0};
      return entry.value;
    }
  }
  const std::uint64_t hash = hash_long(word, length);
  for (std::size_t at = hash;; ++at) {
    auto& entry = entries_[at & mask];
    if (entry.length == length && entry.key[0] == hash &&
        std::memcmp(letters_.data() + entry.key[1], word, length) == 0)
      return entry.value;
    if (entry.length != 0) continue;
    fresh = true;
    ++used_;
    entry = {{hash, letters_.size()}, static_cast<std::uint32_t>(length), 0};
    letters_.append(word, length);
    return entry.value;
  }
}

void RougeTokenizer::begin_group() {
  if (words_.size() > kWordsKept || words_.letters() > kLettersKept) {
    words_.clear();
    stems_.clear();
    next_id_ = 0;
  }
  if (plain_.capacity() > kLettersKept) {
    plain_.clear();
    plain_.shrink_to_fit();
  }
}

inline std::uint32_t RougeTokenizer::word_id(const char* word, std::size_t length) {
  bool fresh = false;
  auto& id = words_.find(word, length, fresh);
  if (!fresh) return id;
  if (!options_.stemmer) return id = next_id_++;
  stem_.assign(word, length);
  const bool plain = std::all_of(stem_.begin(), stem_.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
  });
  if (length > 3 && plain) stem_.resize(porter_stem(stem_.data(), length));
  const std::size_t stem_length = stem_.size();
  stem_.append(16, '\0');
  bool fresh_stem = false;
  auto& stem_id = stems_.find(stem_.data(), stem_length, fresh_stem);
  if (fresh_stem) stem_id = next_id_++;
  return id = stem_id;
}

void RougeTokenizer::tokenize(std::string_view text, TokenList& tokens) {
  tokens.ids.clear();
  tokens.sentence_ends.clear();
  if (options_.kind == RougeTokenization::kGoogle) return tokenize_google(text, tokens);
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    const auto before = tokens.ids.size();
    tokenize_line(text.substr(0, end), tokens);
    if (tokens.ids.size() > before)
      tokens.sentence_ends.push_back(static_cast<std::uint32_t>(tokens.ids.size()));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

void RougeTokenizer::tokenize_line(std::string_view line, TokenList& tokens) {
  const auto add = [&] {  // the word in plain_
    const auto length = plain_.size();
    plain_.append(16, '\0');
    tokens.ids.push_back(word_id(plain_.data(), length));
    plain_.clear();
  };
  plain_.clear();
  if (options_.kind == RougeTokenization::kGiven) {
    given_.clear();
    options_.given(line, given_);
    for (const auto id : given_) {
      plain_ = std::to_string(id);
      add();
    }
    return;
  }
  decode_utf8(line, codes_);
  unicode::lower(codes_);
  if (options_.kind == RougeTokenization::kChar) {
    for (const auto code : codes_) {
      if (unicode::is_space(code)) continue;
      append_utf8(code, plain_);
      add();
    }
    return;
  }
  unicode::for_each_word(codes_, [&](std::span<const std::uint32_t> word) {
    for (const auto code : word)
      if (!unicode::is_ignorable(code)) append_utf8(code, plain_);
    if (!plain_.empty()) add();
  });
}

void RougeTokenizer::tokenize_google(std::string_view text, TokenList& tokens) {
  const auto end_sentence = [&] {
    const auto end = static_cast<std::uint32_t>(tokens.ids.size());
    if (end > (tokens.sentence_ends.empty() ? 0 : tokens.sentence_ends.back()))
      tokens.sentence_ends.push_back(end);
  };
  if (text.empty()) return;
  std::string rewritten;
  if (text.find(kKelvin) != text.npos || text.find(kDottedI) != text.npos)
    text = rewritten = rewrite_special(text);
  const std::size_t size = text.size();
  if (plain_.size() < size + kPadding) plain_.resize(size + kPadding);
  plain_ascii(text.data(), size, plain_.data());
  std::memset(plain_.data() + size, 0, kPadding);

  const char* plain = plain_.data();
  const char* newline = static_cast<const char*>(std::memchr(text.data(), '\n', size));
  std::size_t sentence_end = newline == nullptr ? size : newline - text.data();
  std::size_t start = 0;
  bool inside = false;  // a word began before these 64 bytes, or in them
  for (std::size_t base = 0; base <= size; base += 64) {
    // Bit 5 is set in all of a-z and 0-9; the product gathers it from eight bytes into one.
    std::uint64_t in_word = 0;
    const std::size_t groups = std::min<std::size_t>(8, (size - base) / 8 + 1);
    for (std::size_t g = 0; g < groups; ++g) {
      const std::uint64_t bits = load(plain + base + 8 * g) >> 5 & 0x0101010101010101U;
      in_word |= (bits * 0x0102040810204080U >> 56) << (8 * g);
    }
    // A set bit where a word begins or has just ended.
    std::uint64_t edges = in_word ^ (in_word << 1 | static_cast<std::uint64_t>(inside));
    while (edges != 0) {
      const std::size_t at = base + static_cast<std::size_t>(std::countr_zero(edges));
      edges &= edges - 1;
      inside = !inside;
      if (inside) {
        while (at > sentence_end) {
          end_sentence();
          newline = static_cast<const char*>(
              std::memchr(text.data() + sentence_end + 1, '\n', size - sentence_end - 1));
          sentence_end = newline == nullptr ? size : newline - text.data();
        }
        start = at;
      } else {
        tokens.ids.push_back(word_id(plain + start, at - start));
      }
    }
  }
  end_sentence();
}

}  // namespace rwkvx

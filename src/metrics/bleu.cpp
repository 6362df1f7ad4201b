#include "rwkvx/metrics/bleu.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "rwkvx/base/utf8.h"
#include "rwkvx/metrics/unicode.h"

namespace rwkvx {
namespace {

using Codes = std::vector<std::uint32_t>;

bool is_digit(std::uint32_t c) { return c >= '0' && c <= '9'; }
bool is_stop(std::uint32_t c) { return c == '.' || c == ','; }
// ASCII punctuation but for . , - ' and with the blank.
bool is_13a_mark(std::uint32_t c) {
  return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') ||
         (c >= '(' && c <= '+') || (c >= ':' && c <= '@') || c == '/';
}

// Goes from left to right over pairs of neighbors that don't overlap: where one fits, both are
// written with blanks as `blanks` says (before the first, between, behind), and left behind.
struct Blanks {
  bool before, between, behind;
};
template <class First, class Second>
Codes part_pairs(const Codes& in, const First& first, const Second& second, Blanks blanks) {
  Codes out;
  out.reserve(in.size() * 2);
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (i + 1 == in.size() || !first(in[i]) || !second(in[i + 1])) {
      out.push_back(in[i]);
      continue;
    }
    if (blanks.before) out.push_back(' ');
    out.push_back(in[i]);
    if (blanks.between) out.push_back(' ');
    out.push_back(in[++i]);
    if (blanks.behind) out.push_back(' ');
  }
  return out;
}

template <class Wanted>
Codes part_each(const Codes& in, const Wanted& wanted) {
  Codes out;
  out.reserve(in.size() * 2);
  for (const auto c : in) {
    if (wanted(c))
      out.insert(out.end(), {' ', c, ' '});
    else
      out.push_back(c);
  }
  return out;
}

Codes replace_all(const Codes& in, std::string_view from, std::string_view to) {
  Codes out;
  out.reserve(in.size());
  for (std::size_t i = 0; i < in.size();) {
    std::size_t same = 0;
    while (same < from.size() && i + same < in.size() &&
           in[i + same] == static_cast<unsigned char>(from[same]))
      ++same;
    if (same == from.size()) {
      out.insert(out.end(), to.begin(), to.end());
      i += same;
    } else {
      out.push_back(in[i++]);
    }
  }
  return out;
}

// Where blanks come between words and marks in 13a and zh.
Codes part_marks(Codes text) {
  text = part_each(text, is_13a_mark);
  const auto no_digit = [](std::uint32_t c) { return !is_digit(c); };
  text = part_pairs(text, no_digit, is_stop, {false, true, true});
  text = part_pairs(text, is_stop, no_digit, {true, true, false});
  return part_pairs(text, is_digit, [](std::uint32_t c) { return c == '-'; }, {false, true, true});
}

// sacrebleu's _UCODE_RANGES, the adjoining ones as one. Two of them are meant to begin at U+20000
// and U+2F800 but are written with four digits, and so hold U+2001 to U+2A6D and U+2F81 to U+2FA1.
bool is_chinese(std::uint32_t c) {
  static constexpr std::pair<std::uint32_t, std::uint32_t> kRanges[] = {
      {0x2001, 0x2a6d}, {0x2e80, 0x2eff}, {0x2f00, 0x2fdf}, {0x2ff0, 0x2fff}, {0x3000, 0x303f},
      {0x3100, 0x312f}, {0x31a0, 0x31bf}, {0x31c0, 0x31ef}, {0x3200, 0x33ff}, {0x3400, 0x4db5},
      {0x4e00, 0x9fbb}, {0xf900, 0xfa2d}, {0xfa30, 0xfa6a}, {0xfa70, 0xfad9}, {0xfe10, 0xfe1f},
      {0xfe30, 0xfe4f}, {0xff00, 0xffef}};
  return std::any_of(std::begin(kRanges), std::end(kRanges),
                     [&](const auto& range) { return range.first <= c && c <= range.second; });
}

Codes apply_zh(Codes text) {
  const auto first = std::find_if_not(text.begin(), text.end(), unicode::is_space);
  text.erase(text.begin(), first);
  while (!text.empty() && unicode::is_space(text.back())) text.pop_back();
  return part_marks(part_each(text, is_chinese));
}

Codes apply_13a(Codes text) {
  text = replace_all(text, "<skipped>", "");
  text = replace_all(text, "-\n", "");
  text = replace_all(text, "\n", " ");
  // One after the other, so that &amp;lt; ends as <.
  text = replace_all(text, "&quot;", "\"");
  text = replace_all(text, "&amp;", "&");
  text = replace_all(text, "&lt;", "<");
  text = replace_all(text, "&gt;", ">");
  text.insert(text.begin(), ' ');
  text.push_back(' ');
  return part_marks(std::move(text));
}

Codes apply_intl(Codes text) {
  const auto no_number = [](std::uint32_t c) { return !unicode::is_number(c); };
  text = part_pairs(text, no_number, unicode::is_punctuation, {false, true, true});
  text = part_pairs(text, unicode::is_punctuation, no_number, {true, true, false});
  return part_each(text, unicode::is_symbol);
}

// Calls use(word) for the words between white space.
template <class Use>
void for_each_word(const Codes& text, const Use& use) {
  std::string word;
  for (const auto c : text) {
    if (!unicode::is_space(c)) {
      append_utf8(c, word);
    } else if (!word.empty()) {
      use(word);
      word.clear();
    }
  }
  if (!word.empty()) use(word);
}

Codes cut(Codes text, BleuTokenizer tokenizer) {
  switch (tokenizer) {
    case BleuTokenizer::k13a:
      return apply_13a(std::move(text));
    case BleuTokenizer::kIntl:
      return apply_intl(std::move(text));
    case BleuTokenizer::kZh:
      return apply_zh(std::move(text));
    case BleuTokenizer::kChar:
      return part_each(text, [](std::uint32_t) { return true; });
    default:
      return text;
  }
}

}  // namespace

std::string bleu_tokens(std::string_view text, BleuTokenizer tokenizer) {
  Codes codes;
  decode_utf8(text, codes);
  std::string tokens;
  for_each_word(cut(std::move(codes), tokenizer), [&](const std::string& word) {
    if (!tokens.empty()) tokens += ' ';
    tokens += word;
  });
  return tokens;
}

BleuCounts& BleuCounts::operator+=(const BleuCounts& other) {
  predicted_length += other.predicted_length;
  reference_length += other.reference_length;
  for (std::size_t n = 0; n < kOrders; ++n) {
    hits[n] += other.hits[n];
    totals[n] += other.totals[n];
  }
  return *this;
}

void BleuCounter::tokenize(std::string_view text, std::vector<std::uint32_t>& tokens) {
  tokens.clear();
  Codes codes;
  decode_utf8(text, codes);
  if (lower_case_) unicode::lower(codes);
  while (!codes.empty() && unicode::is_space(codes.back())) codes.pop_back();
  if (cutter_) {
    std::string bytes;
    for (const auto c : codes) append_utf8(c, bytes);
    const auto pieces = cutter_(bytes);
    decode_utf8(pieces, codes);
  }
  for_each_word(cut(std::move(codes), tokenizer_), [&](const std::string& word) {
    tokens.push_back(
        words_.try_emplace(word, static_cast<std::uint32_t>(words_.size())).first->second);
  });
}

BleuCounts BleuCounter::count(std::string_view prediction,
                              std::span<const std::string_view> references) {
  words_.clear();
  sides_.resize(1 + references.size());
  tokenize(prediction, sides_[0]);
  for (std::size_t i = 0; i < references.size(); ++i) tokenize(references[i], sides_[i + 1]);

  BleuCounts counts;
  counts.predicted_length = sides_[0].size();
  std::size_t all = 0, nearest = 0;
  for (std::size_t i = 0; i < sides_.size(); ++i) {
    const auto length = sides_[i].size();
    all += length;
    if (i == 0) continue;
    const auto away = length > counts.predicted_length ? length - counts.predicted_length
                                                       : counts.predicted_length - length;
    if (i == 1 || away < nearest || (away == nearest && length < counts.reference_length)) {
      nearest = away;
      counts.reference_length = length;
    }
  }
  // grams[i]: the name of the n-gram that begins at i, first of the tokens themselves.
  auto grams = sides_;
  for (std::size_t n = 1; n <= BleuCounts::kOrders; ++n) {
    if (n > 1) {
      names_.clear(all);
      for (std::size_t side = 0; side < sides_.size(); ++side)
        for (std::size_t i = 0; i + n <= sides_[side].size(); ++i)
          grams[side][i] = names_.name(grams[side][i], sides_[side][i + n - 1]);
    }
    const std::size_t names = n == 1 ? words_.size() : names_.size();
    const auto tally = [&](std::size_t side, std::vector<std::uint32_t>& tallied) {
      tallied.assign(names, 0);
      for (std::size_t i = 0; i + n <= sides_[side].size(); ++i) ++tallied[grams[side][i]];
    };
    tally(0, predicted_);
    most_wanted_.assign(names, 0);
    for (std::size_t side = 1; side < sides_.size(); ++side) {
      tally(side, wanted_);
      for (std::size_t gram = 0; gram < names; ++gram)
        most_wanted_[gram] = std::max(most_wanted_[gram], wanted_[gram]);
    }
    for (std::size_t gram = 0; gram < names; ++gram) {
      counts.totals[n - 1] += predicted_[gram];
      counts.hits[n - 1] += std::min(predicted_[gram], most_wanted_[gram]);
    }
  }
  return counts;
}

BleuScore bleu_score(const BleuCounts& counts, BleuSmoothing smoothing, std::optional<double> value,
                     bool effective_order) {
  const double smooth = value.value_or(smoothing == BleuSmoothing::kFloor ? 0.1 : 1.0);
  const auto predicted = static_cast<double>(counts.predicted_length);
  const auto wanted = static_cast<double>(counts.reference_length);
  BleuScore result;
  if (predicted < wanted)
    result.brevity_penalty = predicted > 0 ? std::exp(1 - wanted / predicted) : 0;
  if (std::all_of(counts.hits.begin(), counts.hits.end(), [](auto hits) { return hits == 0; }))
    return result;
  std::size_t orders = BleuCounts::kOrders;
  double halving = 1;
  for (std::size_t n = 0; n < BleuCounts::kOrders; ++n) {
    auto hits = static_cast<double>(counts.hits[n]), total = static_cast<double>(counts.totals[n]);
    if (smoothing == BleuSmoothing::kAddK && n > 0) {
      hits += smooth;
      total += smooth;
    }
    if (total == 0) break;
    if (effective_order) orders = n + 1;
    if (hits > 0) {
      result.precisions[n] = 100 * hits / total;
    } else if (smoothing == BleuSmoothing::kExp) {
      halving *= 2;
      result.precisions[n] = 100 / (halving * total);
    } else if (smoothing == BleuSmoothing::kFloor) {
      result.precisions[n] = 100 * smooth / total;
    }
  }
  double logs = 0;
  for (std::size_t n = 0; n < orders; ++n)
    logs += result.precisions[n] == 0 ? -9999999999.0 : std::log(result.precisions[n]);
  result.score = result.brevity_penalty * std::exp(logs / static_cast<double>(orders));
  return result;
}

}  // namespace rwkvx

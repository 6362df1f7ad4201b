#include "data/value_swap.h"

#include <algorithm>
#include <array>
#include <map>

#include "rwkvx/base/splitmix64.h"
#include "rwkvx/base/utf8.h"

namespace rwkvx {
namespace {

constexpr std::size_t kLeastLetters = 3;  // of a word that values are made of
constexpr double kHalves = 0.6;           // share of the words that are put together of two halves

bool is_letter(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z') || byte >= 0x80;
}
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_in_word(char c) { return is_letter(c) || (c >= '0' && c <= '9'); }

std::string lower(std::string_view text) {
  std::string out(text);
  for (auto& c : out)
    if (is_upper(c)) c = static_cast<char>(c | 0x20);
  return out;
}

// Bytes of about half of a word, at the border of a character.
std::size_t half_of(std::string_view word, bool more) {
  auto at = (word.size() + (more ? 1 : 0)) / 2;
  while (at < word.size() && continues_utf8(word[at])) ++at;
  return at;
}

// How often `part` stands in `text`, and whether ever as a part of a longer word.
struct Occurrences {
  std::size_t count = 0;
  bool within_word = false;
};
Occurrences occurrences(std::string_view text, std::string_view part) {
  Occurrences found;
  for (auto at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1)) {
    ++found.count;
    const auto end = at + part.size();
    found.within_word = found.within_word ||
                        (at > 0 && is_in_word(text[at - 1]) && is_in_word(part.front())) ||
                        (end < text.size() && is_in_word(text[end]) && is_in_word(part.back()));
  }
  return found;
}

}  // namespace

// A stream of random numbers.
class ValueSwap::Numbers {
 public:
  explicit Numbers(std::uint64_t key) : key_(key) {}
  // From 0 to 1, without 1.
  double share() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  std::size_t below(std::size_t count) { return static_cast<std::size_t>(next() % count); }

 private:
  std::uint64_t next() { return splitmix64(key_, counter_++); }
  std::uint64_t key_, counter_ = 0;
};

ValueSwap::ValueSwap(std::string open, std::string close, double share)
    : open_(std::move(open)), close_(std::move(close)), share_(share) {}

void ValueSwap::collect(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    auto end = i;
    while (end < text.size() && is_letter(text[end])) ++end;
    if (end - i >= kLeastLetters) words_.push_back(lower(text.substr(i, end - i)));
    i = end + 1;
  }
}

void ValueSwap::finish() {
  std::ranges::sort(words_);
  words_.erase(std::unique(words_.begin(), words_.end()), words_.end());
}

std::string ValueSwap::made_up(std::string_view value, Numbers& numbers) const {
  // As many words as the value has, or another number; capitals where it has them.
  std::vector<bool> capitals;
  bool before = false;
  for (const char c : value) {
    const bool here = is_in_word(c);
    if (here && !before) capitals.push_back(is_upper(c));
    before = here;
  }
  if (capitals.empty()) capitals.push_back(false);
  constexpr std::array<std::size_t, 5> kCounts{1, 1, 2, 2, 3};
  const auto count = numbers.share() < 0.5 ? std::min<std::size_t>(capitals.size(), 4)
                                           : kCounts[numbers.below(kCounts.size())];
  std::string out;
  for (std::size_t i = 0; i < count; ++i) {
    const auto &first = words_[numbers.below(words_.size())],
               &second = words_[numbers.below(words_.size())];
    auto word = numbers.share() < kHalves ? first.substr(0, half_of(first, /*more=*/true)) +
                                                second.substr(half_of(second, /*more=*/false))
                                          : first;
    if (capitals[std::min(i, capitals.size() - 1)] && word[0] >= 'a' && word[0] <= 'z')
      word[0] = static_cast<char>(word[0] & ~0x20);
    out += (i > 0 ? " " : "") + word;
  }
  return out;
}

std::optional<PromptResponse> ValueSwap::swapped(std::string_view prompt, std::string_view response,
                                                 std::uint64_t key) const {
  if (words_.empty()) return std::nullopt;
  Numbers numbers(key);
  // What stands between the marks, the longest first, so that no value is taken for a part of one.
  std::map<std::string_view, std::string> new_values;
  struct Place {
    std::size_t begin, size;
  };
  std::vector<Place> places;
  for (std::size_t at = 0; (at = prompt.find(open_, at)) != std::string_view::npos;) {
    const auto begin = at + open_.size(), end = prompt.find(close_, begin);
    if (end == std::string_view::npos) break;
    places.push_back({begin, end - begin});
    at = end + close_.size();
  }
  std::vector<std::string_view> values;
  for (const auto& place : places) {
    const auto value = prompt.substr(place.begin, place.size);
    if (value.size() < kLeastLetters || std::ranges::find(values, value) != values.end()) continue;
    const auto found = occurrences(response, value);
    if (found.count > 0 && !found.within_word) values.push_back(value);
  }
  for (const auto value : values)
    if (numbers.share() < share_) new_values[value] = made_up(value, numbers);
  if (new_values.empty()) return std::nullopt;

  PromptResponse out;
  std::size_t done = 0;
  for (const auto& place : places) {
    const auto found = new_values.find(prompt.substr(place.begin, place.size));
    if (found == new_values.end()) continue;
    out.prompt += prompt.substr(done, place.begin - done);
    out.prompt += found->second;
    done = place.begin + place.size;
  }
  out.prompt += prompt.substr(done);
  std::ranges::sort(values, [](auto a, auto b) { return a.size() > b.size(); });
  for (std::size_t i = 0; i < response.size();) {
    const auto here = std::ranges::find_if(
        values, [&](auto value) { return response.substr(i).starts_with(value); });
    if (here == values.end()) {
      out.response += response[i++];
      continue;
    }
    const auto found = new_values.find(*here);
    out.response += found == new_values.end() ? std::string(*here) : found->second;
    i += here->size();
  }
  return out;
}

}  // namespace rwkvx

#include "rwkvx/study/borders.h"

#include <algorithm>
#include <random>
#include <string>

namespace rwkvx {
namespace {

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f'; }
bool is_letter(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x80 || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
         (byte >= '0' && byte <= '9');
}

}  // namespace

std::vector<Boundary> natural_boundaries(std::string_view text) {
  std::vector<Boundary> found;
  for (std::size_t i = 1; i <= text.size(); ++i) {
    if (is_space(text[i - 1]) || (i < text.size() && !is_space(text[i]))) continue;
    const auto add = [&](Boundary::Kind kind) {
      found.push_back({kind, static_cast<std::int64_t>(i)});
    };
    std::size_t last = i - 1;  // the punctuation before closing quotes and brackets
    while (last > 0 && std::string_view("\"')]").find(text[last]) != std::string_view::npos) --last;
    std::size_t next = i, lines = 0;
    for (; next < text.size() && is_space(text[next]); ++next) lines += text[next] == '\n' ? 1 : 0;
    const bool paragraph = next == text.size() || lines >= 2;
    const bool sentence =
        paragraph || std::string_view(".!?").find(text[last]) != std::string_view::npos;
    const bool phrase =
        sentence || std::string_view(",;:").find(text[last]) != std::string_view::npos;
    add(Boundary::Kind::kWord);
    if (phrase) add(Boundary::Kind::kPhrase);
    if (sentence) add(Boundary::Kind::kSentence);
    if (paragraph) add(Boundary::Kind::kParagraph);
  }
  return found;
}

std::vector<std::uint8_t> border_levels(std::string_view text,
                                        const std::vector<Boundary>& boundaries) {
  std::vector<std::uint8_t> levels(text.size(), 0);
  for (const auto& one : boundaries) {
    if (one.offset < 0 || one.offset >= static_cast<std::int64_t>(text.size())) continue;
    auto& level = levels[static_cast<std::size_t>(one.offset)];
    level = std::max(level, static_cast<std::uint8_t>(static_cast<int>(one.kind) + 1));
  }
  return levels;
}

std::vector<std::pair<std::int64_t, std::int64_t>> matched_positions(
    std::string_view text, const std::vector<std::uint8_t>& levels, int level, std::int64_t reach,
    std::uint64_t seed) {
  const auto size = static_cast<std::int64_t>(text.size());
  const auto at = [&](std::int64_t i) { return text[static_cast<std::size_t>(i)]; };
  const auto serves = [&](std::int64_t i) {
    if (i <= 0 || i + 1 >= size) return false;
    const auto own = levels[static_cast<std::size_t>(i)];
    if (level > 1) return own == 1;
    return own == 0 && is_letter(at(i - 1)) && is_letter(at(i)) && is_letter(at(i + 1));
  };
  std::mt19937_64 random(seed);
  std::vector<bool> taken(text.size(), false);
  std::vector<std::pair<std::int64_t, std::int64_t>> pairs;
  std::vector<std::int64_t> free;
  for (std::int64_t i = 0; i < size; ++i) {
    if (levels[static_cast<std::size_t>(i)] != level) continue;
    free.clear();
    for (auto j = std::max<std::int64_t>(0, i - reach); j < std::min(size, i + reach + 1); ++j)
      if (serves(j) && !taken[static_cast<std::size_t>(j)]) free.push_back(j);
    if (free.empty()) continue;
    const auto partner = free[static_cast<std::size_t>((random() >> 11) % free.size())];
    taken[static_cast<std::size_t>(partner)] = true;
    pairs.emplace_back(i, partner);
  }
  return pairs;
}

}  // namespace rwkvx

#include "rwkvx/study/names.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <string>

#include "rwkvx/base/error.h"
#include "rwkvx/synth/synth.h"
#include "study/sources.h"

namespace rwkvx {
namespace {

struct Word {
  std::int64_t begin, end;
  bool name;
  std::int64_t letters() const { return end - begin; }
};

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

std::string_view text_of(std::string_view text, std::int64_t begin, std::int64_t end) {
  return text.substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
}

std::vector<Word> words_of(std::string_view text) {
  std::vector<Word> words;
  for (std::size_t i = 0; i < text.size();) {
    if (!is_letter(text[i])) {
      ++i;
      continue;
    }
    const auto begin = i;
    while (i < text.size() && is_letter(text[i])) ++i;
    words.push_back({static_cast<std::int64_t>(begin), static_cast<std::int64_t>(i),
                     is_story_name(text.substr(begin, i - begin))});
  }
  return words;
}

// The texts of a field, one a line.
std::vector<std::string> texts_of(const std::filesystem::path& path, const char* field) {
  std::vector<std::string> texts;
  for_each_line(path, [&](const JsonObject& line, const nlohmann::json&, const std::string&) {
    texts.push_back(line.text(field));
    return true;
  });
  return texts;
}

}  // namespace

std::vector<NameMention> name_mentions(std::string_view text) {
  std::vector<NameMention> found;
  std::set<std::string_view> seen;
  for (const auto& word : words_of(text))
    if (word.name)
      found.push_back(
          {word.begin, word.end, seen.insert(text_of(text, word.begin, word.end)).second});
  return found;
}

NamePairs matched_names(std::string_view text, std::int64_t reach, std::uint64_t seed) {
  const auto words = words_of(text);
  std::vector<bool> taken(words.size(), false);
  std::map<std::string_view, std::int64_t> firsts;  // last byte of a name's first mention
  std::set<std::string_view> twice;
  std::mt19937_64 random(seed);
  std::vector<std::size_t> free;
  NamePairs pairs;
  for (const auto& word : words) {
    if (!word.name) continue;
    const auto name = text_of(text, word.begin, word.end);
    const auto [before, first] = firsts.emplace(name, word.end - 1);
    if (!first && twice.insert(name).second) pairs.again.emplace_back(word.end - 1, before->second);
    free.clear();
    for (std::size_t i = 0; i < words.size(); ++i)
      if (!words[i].name && !taken[i] && words[i].letters() == word.letters() &&
          std::abs(words[i].begin - word.begin) <= reach)
        free.push_back(i);
    if (free.empty()) continue;
    const auto partner = free[static_cast<std::size_t>((random() >> 11) % free.size())];
    taken[partner] = true;
    (first ? pairs.first : pairs.later).emplace_back(word.end - 1, words[partner].end - 1);
  }
  return pairs;
}

NameCounts count_names(std::string_view prompt, std::string_view continuation) {
  std::set<std::string_view> known;
  for (const auto& one : name_mentions(prompt)) known.insert(text_of(prompt, one.begin, one.end));
  NameCounts counts;
  for (const auto& one : name_mentions(continuation)) {
    if (one.end == static_cast<std::int64_t>(continuation.size())) continue;
    ++(known.contains(text_of(continuation, one.begin, one.end)) ? counts.known : counts.others);
  }
  return counts;
}

nlohmann::ordered_json name_scores(const std::filesystem::path& prompts,
                                   const std::filesystem::path& predictions) {
  const auto asked = texts_of(prompts, "prompt"), said = texts_of(predictions, "prediction");
  if (asked.size() != said.size())
    throw DataError(predictions.string(), "expected " + std::to_string(asked.size()) +
                                              " lines, got " + std::to_string(said.size()));
  std::vector<std::int64_t> known, others, chance;
  for (std::size_t i = 0; i < asked.size(); ++i) {
    const auto counts = count_names(asked[i], said[i]);
    known.push_back(counts.known), others.push_back(counts.others);
    chance.push_back(count_names(asked[(i + 1) % asked.size()], said[i]).known);
  }
  return {{"known", known}, {"others", others}, {"chance", chance}};
}

}  // namespace rwkvx

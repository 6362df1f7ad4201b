// Tasks whose answers lie in the context: random words, some of them again.
#include <algorithm>
#include <string>
#include <vector>

#include "synth/draw.h"
#include "synth/synth_text.h"

namespace rwkvx {
namespace {

// A word that means nothing, of two or three syllables.
std::string nonsense(Draw& draw) {
  static constexpr std::string_view kStarts[] = {"b", "d", "f", "g", "k", "l",  "m",  "n", "p",
                                                 "r", "s", "t", "v", "z", "br", "st", "gl"};
  static constexpr std::string_view kVowels[] = {"a", "e", "i", "o", "u", "ai", "oo"};
  static constexpr std::string_view kEnds[] = {"", "", "", "n", "r", "l", "s"};
  std::string word;
  for (int syllables = draw.between(2, 3); syllables > 0; --syllables) {
    word += draw.pick(kStarts);
    word += draw.pick(kVowels);
    if (syllables == 1) word += draw.pick(kEnds);
  }
  return word;
}

std::vector<std::string> different_words(Draw& draw, std::size_t count) {
  std::vector<std::string> words;
  while (words.size() < count) {
    std::string word = nonsense(draw);
    if (std::find(words.begin(), words.end(), word) == words.end()) words.push_back(word);
  }
  return words;
}

SynthDocument make_copy(std::uint64_t key) {
  Draw draw(key);
  const auto words = different_words(draw, static_cast<std::size_t>(draw.between(8, 60)));
  std::string line;
  for (const auto& word : words) line += (line.empty() ? "" : " ") + word;
  SynthText text(/*capitals=*/false);
  text.say("{line}|", {{"line", line}});
  text.end_paragraph("\n");
  const std::int64_t half = text.size() - 1;
  text.say("{line}|", {{"line", line}});
  SynthDocument document;
  document.prompt_end = half;
  document.reference_end = text.size();
  text.finish(document);
  return document;
}

SynthDocument make_induction(std::uint64_t key) {
  Draw draw(key);
  const auto pairs = static_cast<std::size_t>(draw.between(4, 10));
  const auto words = different_words(draw, 2 * pairs + 12);
  const auto first = [&](std::size_t pair) { return words[2 * pair]; };
  const auto second = [&](std::size_t pair) { return words[2 * pair + 1]; };
  SynthText text(/*capitals=*/false);
  // Every pair is shown once before any comes again, then in random order between other words.
  auto order = draw.several(pairs, pairs);
  for (int more = draw.between(20, 60); more > 0; --more) order.push_back(draw.below(pairs));
  for (std::size_t i = 0; i + 1 < order.size(); ++i) {
    for (auto others = draw.below(4); others > 0; --others)
      text.say("{w}|", {{"w", words[2 * pairs + draw.below(12)]}});
    text.say("{a} {b}|", {{"a", first(order[i])}, {"b", second(order[i])}});
  }
  SynthDocument document;
  text.say("{a}", {{"a", first(order.back())}});
  document.prompt_end = text.size();
  text.say("{b}|", {{"b", second(order.back())}});
  document.reference_end = text.size();
  text.finish(document);
  return document;
}

SynthDocument make_recall(std::uint64_t key) {
  Draw draw(key);
  const auto facts = static_cast<std::size_t>(draw.between(4, 24));
  const auto words = different_words(draw, 2 * facts);
  const auto fact = [&](std::size_t i) {
    return Slots{{"key", words[2 * i]}, {"value", words[2 * i + 1]}};
  };
  SynthText text(/*capitals=*/false);
  for (std::size_t i = 0; i < facts; ++i) text.say("{key}| is {value}|.", fact(i));
  text.end_paragraph("\n");
  SynthDocument document;
  const auto asked = draw.several(std::min<std::size_t>(facts, 6), facts);
  for (std::size_t i = 0; i < asked.size(); ++i) {
    if (i > 0) text.end_paragraph("\n");
    text.say("What is {key}|?", fact(asked[i]));
    document.prompt_end = text.size();
    text.say("{value}|.", fact(asked[i]));
    document.reference_end = text.size();
  }
  text.finish(document);
  return document;
}

}  // namespace

extern const SynthTask kCopy{.name = "copy",
                             .help = "a line of random words, then the same line again",
                             .number = 1,
                             .answers = true,
                             .make = make_copy};

extern const SynthTask kInduction{.name = "induction",
                                  .help =
                                      "a row of words in which pairs recur: after the first word "
                                      "of a pair its second must follow",
                                  .number = 2,
                                  .answers = true,
                                  .make = make_induction};

extern const SynthTask kRecall{
    .name = "recall",
    .help = "a list of \"key is value\" facts, then questions about some of them",
    .number = 3,
    .answers = true,
    .make = make_recall};

}  // namespace rwkvx

#include "rwkvx/synth/synth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/lock.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/synth/write.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using Kind = StoryEvent::Kind;
using ::testing::HasSubstr;

SynthDocument document_of(std::string_view task, std::uint64_t seed, std::uint64_t index) {
  return synth_document(synth_task(task, ""), seed, index);
}

std::string told(const SynthDocument& story, const StoryEvent& event) {
  return story.text.substr(static_cast<std::size_t>(event.begin),
                           static_cast<std::size_t>(event.end - event.begin));
}

std::vector<std::string> lines_of(const std::filesystem::path& path) {
  std::istringstream text(read_file(path));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

std::vector<std::int64_t> ends(const SynthDocument& document, Boundary::Kind kind) {
  std::vector<std::int64_t> found;
  for (const Boundary& boundary : document.boundaries)
    if (boundary.kind == kind) found.push_back(boundary.offset);
  return found;
}

// Lives through a story's events with rules of its own and says what they contradict.
class World {
 public:
  explicit World(const SynthDocument& story) : story_(story) {
    standing_.resize(story.people.size(), -1);
    where_.resize(story.things.size());
  }

  // "" where the event is possible, or true, in the state so far.
  std::string live(const StoryEvent& event) {
    const auto thing = static_cast<std::size_t>(event.thing);
    const int here = event.actor >= 0 ? standing_[static_cast<std::size_t>(event.actor)] : -1;
    const int there = event.other >= 0 ? standing_[static_cast<std::size_t>(event.other)] : -1;
    switch (event.kind) {
      case Kind::kStands:
        return tell(standing_[static_cast<std::size_t>(event.actor)], event.place);
      case Kind::kHolds:
        return tell(where_[thing], {"held", event.actor});
      case Kind::kLies:
        return tell(where_[thing], {"lies", event.place});
      case Kind::kBoxed:
        return tell(where_[thing], {"boxed", 0});
      case Kind::kBox:
        return tell(box_, event.place);
      case Kind::kLocked:
        locked_ = event.place;
        key_ = event.thing;
        return "";
      case Kind::kMove:
        if (event.place == here) return "goes to where they are";
        if (event.place == locked_ && !holds(event.actor, key_)) return "has no key";
        standing_[static_cast<std::size_t>(event.actor)] = event.place;
        return "";
      case Kind::kUnlock:
        if (event.place != locked_ || !holds(event.actor, event.thing)) return "cannot unlock";
        locked_ = -1;
        return "";
      case Kind::kTake:
        return change(thing, {"lies", here}, {"held", event.actor});
      case Kind::kPut:
        return change(thing, {"held", event.actor}, {"lies", here});
      case Kind::kGive:
        if (here != there) return "gives to somebody who is elsewhere";
        return change(thing, {"held", event.actor}, {"held", event.other});
      case Kind::kStore:
        if (here != box_) return "the box is elsewhere";
        return change(thing, {"held", event.actor}, {"boxed", 0});
      case Kind::kFetch:
        if (here != box_) return "the box is elsewhere";
        return change(thing, {"boxed", 0}, {"held", event.actor});
      case Kind::kTogether:
        return here == there ? "" : "they are in different places";
    }
    return "unknown kind";
  }

 private:
  using Where = std::pair<std::string, int>;
  // The first telling sets a fact, later ones must agree with the state.
  template <class Value>
  std::string tell(Value& known, const Value& said) {
    if (known == initial(known)) known = said;
    return known == said ? "" : "says what is not so";
  }
  static int initial(int) { return -1; }
  static Where initial(const Where&) { return {}; }
  std::string change(std::size_t thing, const Where& from, const Where& to) {
    if (where_[thing] != from) return "the thing is elsewhere";
    where_[thing] = to;
    return "";
  }
  bool holds(int person, int thing) const {
    return where_[static_cast<std::size_t>(thing)] == Where{"held", person};
  }

  const SynthDocument& story_;
  std::vector<int> standing_;
  std::vector<Where> where_;
  int box_ = -1, locked_ = -1, key_ = -1;
};

TEST(Synth, IsAFunctionOfTaskSeedAndIndex) {
  for (const auto* task : synth_tasks()) {
    std::set<std::string> texts;
    for (const std::uint64_t seed : {1, 2})
      for (const std::uint64_t index : {0, 1, 2}) {
        const auto once = synth_document(*task, seed, index);
        const auto again = synth_document(*task, seed, index);
        EXPECT_EQ(once.text, again.text);
        EXPECT_EQ(once.boundaries.size(), again.boundaries.size());
        texts.insert(once.text);
      }
    EXPECT_EQ(texts.size(), 6u) << task->name;
  }
}

// The same on every machine and with every compiler: these are values to keep, and to change only
// together with the version of the generator.
TEST(Synth, GivesTheSameBytesEverywhere) {
  const std::map<std::string_view, std::string> wanted{
      {"stories", "d024fbdcc42a97ce41359383df2f459d"},
      {"copy", "cc41a5199a44dd6465579d7ee9f6626c"},
      {"induction", "fc795004faebf831dd36a63ef36985a6"},
      {"recall", "f969a659b7899391393b0bdcdb3b0f65"}};
  for (const auto* task : synth_tasks()) {
    Hasher hasher;
    for (std::uint64_t index = 0; index < 50; ++index)
      hasher.add(synth_document(*task, 7, index).text);
    EXPECT_EQ(hasher.hex(), wanted.at(task->name)) << task->name;
  }
}

TEST(Synth, TellsStoriesOf150To600Words) {
  std::int64_t most = 0, least = 10000;
  for (std::uint64_t index = 0; index < 3000; ++index) {
    const auto words =
        static_cast<std::int64_t>(words_of(document_of("stories", 3, index).text).size());
    most = std::max(most, words);
    least = std::min(least, words);
  }
  EXPECT_GE(least, 150);
  EXPECT_LE(most, 600);
  EXPECT_LT(least, 260);
  EXPECT_GT(most, 500);
}

TEST(Synth, TellsStoriesThatNeverContradictThemselves) {
  for (std::uint64_t index = 0; index < 2000; ++index) {
    const auto story = document_of("stories", 5, index);
    World world(story);
    for (const StoryEvent& event : story.events) {
      const std::string wrong = world.live(event);
      ASSERT_EQ(wrong, "") << "story " << index << ": \"" << told(story, event) << "\"\n"
                           << story.text;
    }
  }
}

TEST(Synth, NamesThingsAndPlacesInTheSentencesAboutThem) {
  for (std::uint64_t index = 0; index < 300; ++index) {
    const auto story = document_of("stories", 6, index);
    for (const StoryEvent& event : story.events) {
      std::string sentence = told(story, event);
      const bool told_by_it = event.kind == Kind::kBoxed || event.kind == Kind::kLies ||
                              event.kind == Kind::kHolds || event.kind == Kind::kTogether ||
                              event.kind == Kind::kStore;
      if (event.thing >= 0 && !told_by_it) {
        EXPECT_THAT(sentence, HasSubstr(story.things[static_cast<std::size_t>(event.thing)]));
      }
      std::transform(sentence.begin(), sentence.end(), sentence.begin(),
                     [](unsigned char letter) { return std::tolower(letter); });
      if (event.place >= 0 && event.kind != Kind::kLies) {
        EXPECT_THAT(sentence, HasSubstr(story.places[static_cast<std::size_t>(event.place)]));
      }
    }
  }
}

TEST(Synth, KeepsThePromiseFarFromWhereItWasMade) {
  for (std::uint64_t index = 0; index < 300; ++index) {
    const auto story = document_of("stories", 8, index);
    const auto promise = story.text.find("promise");
    const auto kept = std::find_if(
        story.events.rbegin(), story.events.rend(),
        [](const auto& event) { return event.kind == Kind::kGive && event.thing == 0; });
    ASSERT_NE(kept, story.events.rend());
    EXPECT_GT(kept->begin, static_cast<std::int64_t>(promise));
    EXPECT_EQ(kept->actor, 0);
  }
}

TEST(Synth, VariesItsSentences) {
  // Sentences without their names, things and places.
  std::set<std::string> shapes;
  for (std::uint64_t index = 0; index < 400; ++index) {
    const auto story = document_of("stories", 4, index);
    std::string text = story.text;
    const auto blank = [&](const std::vector<std::string>& names) {
      for (const auto& name : names)
        for (auto at = text.find(name); at != std::string::npos; at = text.find(name))
          text.replace(at, name.size(), "_");
    };
    blank(story.things), blank(story.places), blank(story.people);
    std::istringstream stream(text);
    for (std::string sentence; std::getline(stream, sentence, '.');) shapes.insert(sentence);
  }
  EXPECT_GT(shapes.size(), 400u);
}

TEST(Synth, MarksWhereWordsPhrasesSentencesAndParagraphsEnd) {
  for (const auto* task : synth_tasks()) {
    for (std::uint64_t index = 0; index < 50; ++index) {
      const auto document = synth_document(*task, 1, index);
      const std::string& text = document.text;
      const auto words = ends(document, Boundary::Kind::kWord);
      std::vector<std::int64_t> expected;
      for (std::size_t i = 1; i < text.size(); ++i)
        if (std::isspace(static_cast<unsigned char>(text[i])) != 0 &&
            std::isspace(static_cast<unsigned char>(text[i - 1])) == 0)
          expected.push_back(static_cast<std::int64_t>(i));
      EXPECT_EQ(words, expected) << task->name << " " << index;
      const std::set<std::int64_t> word_ends(words.begin(), words.end());
      const auto phrases = ends(document, Boundary::Kind::kPhrase);
      const std::set<std::int64_t> phrase_ends(phrases.begin(), phrases.end());
      EXPECT_EQ(phrase_ends.size(), phrases.size());
      for (const auto end : phrases) EXPECT_TRUE(word_ends.contains(end)) << end;
      for (const auto end : ends(document, Boundary::Kind::kSentence)) {
        EXPECT_TRUE(phrase_ends.contains(end));
        EXPECT_THAT(std::string(".!?\""),
                    HasSubstr(text.substr(static_cast<std::size_t>(end) - 1, 1)));
      }
      for (const auto end : ends(document, Boundary::Kind::kParagraph)) {
        EXPECT_TRUE(word_ends.contains(end));
        EXPECT_EQ(text[static_cast<std::size_t>(end)], '\n');
      }
      EXPECT_EQ(ends(document, Boundary::Kind::kParagraph).back() + 1,
                static_cast<std::int64_t>(text.size()));
      EXPECT_TRUE(
          std::is_sorted(document.boundaries.begin(), document.boundaries.end(),
                         [](const Boundary& a, const Boundary& b) { return a.offset < b.offset; }));
    }
  }
}

TEST(Synth, EndsEverySentenceOfAStoryWithACapitalNext) {
  const auto story = document_of("stories", 2, 1);
  for (const auto end : ends(story, Boundary::Kind::kSentence)) {
    auto next = static_cast<std::size_t>(end);
    while (next < story.text.size() &&
           (story.text[next] == ' ' || story.text[next] == '\n' || story.text[next] == '"'))
      ++next;
    if (next < story.text.size()) {
      EXPECT_TRUE(story.text[next] >= 'A' && story.text[next] <= 'Z')
          << story.text.substr(next, 20);
    }
  }
}

TEST(Synth, CutsPairsWhereTheRestCanBeTold) {
  for (std::uint64_t index = 0; index < 100; ++index) {
    const auto cut = [&](const SynthDocument& document) {
      return std::pair(document.text.substr(0, static_cast<std::size_t>(document.prompt_end)),
                       document.text.substr(
                           static_cast<std::size_t>(document.prompt_end),
                           static_cast<std::size_t>(document.reference_end - document.prompt_end)));
    };
    const auto [line, same] = cut(document_of("copy", 1, index));
    EXPECT_EQ("\n" + line, same);

    const auto [row, next] = cut(document_of("induction", 1, index));
    const auto words = words_of(row);
    const auto earlier = std::find(words.begin(), words.end() - 1, words.back());
    ASSERT_NE(earlier, words.end() - 1);
    for (auto word = earlier; word + 1 < words.end(); ++word)
      EXPECT_TRUE(*word != words.back() || *(word + 1) == words_of(next).front());

    const auto [facts, answer] = cut(document_of("recall", 1, index));
    const auto asked = facts.rfind("What is ") + 8;
    const std::string key = facts.substr(asked, facts.size() - asked - 1);
    EXPECT_THAT(facts, HasSubstr(key + " is" + answer));

    const auto story = document_of("stories", 1, index);
    const auto [told_before, state] = cut(story);
    for (const auto& thing : story.things) {
      EXPECT_THAT(state, HasSubstr(thing));
      EXPECT_THAT(told_before, HasSubstr(thing));
    }
  }
}

TEST(Synth, WritesTheSameFilesFromTheSameOptions) {
  const ScratchDirectory scratch;
  for (const auto* task : synth_tasks()) {
    SynthOptions options;
    options.task = task;
    options.stories = 30;
    options.pairs = 5;
    const auto report = write_synth(options, scratch / "one", true);
    write_synth(options, scratch / "two", true);
    EXPECT_EQ(report.train_documents, 30);
    EXPECT_EQ(report.valid_documents, 3);
    for (const char* name :
         {"train.txt", "valid.txt", "pairs.jsonl", "boundaries.jsonl", "manifest.json"})
      EXPECT_EQ(read_file(scratch / "one" / name), read_file(scratch / "two" / name)) << name;
    const auto lines = lines_of(scratch / "one/train.txt");
    EXPECT_EQ(std::count(lines.begin(), lines.end(), "<|endoftext|>"), 30);
    const auto manifest = nlohmann::json::parse(read_file(scratch / "one/manifest.json"));
    EXPECT_EQ(manifest["train_bytes"], std::filesystem::file_size(scratch / "one/train.txt"));
    EXPECT_EQ(manifest["xxh3_128"]["train.txt"], hash_file(scratch / "one/train.txt"));
    options.seed = 2;
    write_synth(options, scratch / "two", true);
    EXPECT_NE(read_file(scratch / "one/train.txt"), read_file(scratch / "two/train.txt"));
  }
}

TEST(Synth, WritesAsManyMegabytesAsAskedFor) {
  const ScratchDirectory scratch;
  SynthOptions options;
  options.megabytes = 0.2;
  const auto report = write_synth(options, scratch.path(), true);
  EXPECT_GE(report.train_bytes, 200000);
  EXPECT_LT(report.train_bytes, 205000);
  EXPECT_EQ(report.pairs, 200);
}

TEST(Synth, WritesBoundariesAsBytesOfTheValidationText) {
  const ScratchDirectory scratch;
  SynthOptions options;
  options.stories = 40;
  write_synth(options, scratch.path(), true);
  const std::string text = read_file(scratch / "valid.txt");
  const auto lines = lines_of(scratch / "boundaries.jsonl");
  ASSERT_EQ(lines.size(), 4u);
  for (const auto& line : lines) {
    const auto json = nlohmann::json::parse(line);
    const std::size_t offset = json["offset"],
                      end = offset + json["paragraphs"].back().get<std::size_t>();
    EXPECT_EQ(text.substr(end, 15), "\n<|endoftext|>\n");
    for (const std::size_t sentence : json["sentences"])
      EXPECT_THAT(std::string(".!?\""), HasSubstr(text.substr(offset + sentence - 1, 1)));
    EXPECT_GT(json["words"].size(), json["phrases"].size());
    EXPECT_GT(json["phrases"].size(), json["sentences"].size());
    EXPECT_GT(json["sentences"].size(), json["paragraphs"].size());
  }
}

TEST(Synth, WritesPairsFromStoriesInNeitherText) {
  const ScratchDirectory scratch;
  SynthOptions options;
  options.stories = 50;
  options.pairs = 20;
  write_synth(options, scratch.path(), true);
  const std::string text = read_file(scratch / "train.txt") + read_file(scratch / "valid.txt");
  std::set<std::string> ids;
  for (const auto& line : lines_of(scratch / "pairs.jsonl")) {
    const auto json = nlohmann::json::parse(line);
    const std::string prompt = json["prompt"], reference = json["reference"];
    ids.insert(json["id"]);
    EXPECT_EQ(text.find(prompt), std::string::npos);
    EXPECT_FALSE(reference.empty());
    EXPECT_NE(prompt.back(), ' ');
  }
  EXPECT_EQ(ids.size(), 20u);
}

TEST(Synth, RefusesOptionsOutOfRange) {
  const ScratchDirectory scratch;
  const auto refused = [&](auto change) {
    SynthOptions options;
    change(options);
    EXPECT_THROW(write_synth(options, scratch.path(), true), ConfigError);
  };
  refused([](SynthOptions& o) { o.stories = -1; });
  refused([](SynthOptions& o) { o.megabytes = 0; });
  refused([](SynthOptions& o) { o.megabytes = std::numeric_limits<double>::quiet_NaN(); });
  refused([](SynthOptions& o) { o.valid_fraction = 1.5; });
  refused([](SynthOptions& o) { o.pairs = -1; });
  try {
    synth_task("storys", "--task");
    ADD_FAILURE() << "an unknown task";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), testing::StartsWith("--task: must be one of stories, copy"));
    EXPECT_THAT(error.what(), HasSubstr("did you mean \"stories\"?"));
  }
}

TEST(Synth, LeavesFilesOfOthersAlone) {
  const ScratchDirectory scratch;
  SynthOptions options;
  options.stories = 2;
  write_file(scratch / "train.txt", "my own text");
  EXPECT_THROW(write_synth(options, scratch.path(), /*quiet=*/true), FileError);
  EXPECT_EQ(read_file(scratch / "train.txt"), "my own text");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(scratch.path()), {}), 1);
  // Its own are written again, those that were cut off too.
  write_synth(options, scratch / "new", /*quiet=*/true);
  write_synth(options, scratch / "new", /*quiet=*/true);
  write_file(scratch / "new/manifest.json", "");
  write_synth(options, scratch / "new", /*quiet=*/true);
  const auto lock = FileLock::of_directory(scratch / "new");
  EXPECT_THROW(write_synth(options, scratch / "new", /*quiet=*/true), FileError);
}

}  // namespace
}  // namespace rwkvx

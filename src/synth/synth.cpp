#include "rwkvx/synth/synth.h"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/lock.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/nearest.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "synth/draw.h"
#include "synth/synth_text.h"

namespace rwkvx {
namespace {

constexpr std::string_view kSeparatorLine = "<|endoftext|>\n";
constexpr std::string_view kTaskNames[] = {"stories", "copy", "induction", "recall"};
// Each file takes its documents from its own range of numbers, so none is in two.
constexpr std::uint64_t kValidFirst = std::uint64_t{1} << 40, kPairsFirst = std::uint64_t{1} << 41;

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

constexpr const char* kManifest = "manifest.json";

// Throws FileError where files of our names are there and not known to be ours.
void refuse_foreign(const std::filesystem::path& directory) {
  std::error_code ignored;
  const auto path = directory / kManifest;
  if (std::filesystem::exists(path, ignored)) {
    const auto text = read_file(path);
    const auto json = parse_json_or_null(text);
    if (text.empty() || (json.is_object() && json.contains("task") && json.contains("xxh3_128")))
      return;
  }
  for (const char* name : {kManifest, "train.txt", "valid.txt", "boundaries.jsonl", "pairs.jsonl"})
    if (std::filesystem::exists(directory / name, ignored))
      throw FileError((directory / name).string(),
                      "already exists and was not written by data synth, so it is not replaced; "
                      "choose another directory");
}

const char* kind_name(Boundary::Kind kind) {
  static constexpr const char* kNames[] = {"words", "phrases", "sentences", "paragraphs"};
  return kNames[static_cast<std::size_t>(kind)];
}

// A file that knows its hash and how many documents went in.
class Output {
 public:
  explicit Output(const std::filesystem::path& path) : file_(path) {}
  void write(std::string_view bytes) {
    file_.write(bytes);
    hasher_.add(bytes);
  }
  std::int64_t size() const { return static_cast<std::int64_t>(file_.size()); }
  std::string commit() {
    file_.commit();
    return hasher_.hex();
  }

 private:
  AtomicFile file_;
  Hasher hasher_;
};

void write_document(Output& out, const SynthDocument& document) {
  out.write(document.text);
  out.write(kSeparatorLine);
}

std::int64_t count_words(const SynthDocument& document) {
  return std::count_if(document.boundaries.begin(), document.boundaries.end(),
                       [](const Boundary& b) { return b.kind == Boundary::Kind::kWord; });
}

std::string boundary_line(const SynthDocument& document, std::int64_t number, std::int64_t offset) {
  nlohmann::ordered_json line{{"story", number}, {"offset", offset}};
  for (const auto kind : {Boundary::Kind::kWord, Boundary::Kind::kPhrase, Boundary::Kind::kSentence,
                          Boundary::Kind::kParagraph}) {
    auto& ends = line[kind_name(kind)] = nlohmann::ordered_json::array();
    for (const Boundary& boundary : document.boundaries)
      if (boundary.kind == kind) ends.push_back(boundary.offset);
  }
  return line.dump() + "\n";
}

void check(const SynthOptions& options) {
  if (options.stories < 0 || options.stories > 1'000'000'000)
    throw ConfigError("--stories", std::to_string(options.stories) + " is not in 0 to 1000000000");
  if (options.stories == 0 && !(options.megabytes > 0 && options.megabytes <= 1'000'000))
    throw ConfigError("--megabytes", "wanted a size above 0 and at most 1000000");
  if (!(options.valid_fraction >= 0 && options.valid_fraction <= 1))
    throw ConfigError("--valid-fraction", "wanted 0 to 1");
  if (options.pairs < 0 || options.pairs > 100'000'000)
    throw ConfigError("--pairs", std::to_string(options.pairs) + " is not in 0 to 100000000");
}

}  // namespace

void SynthText::mark(Boundary::Kind kind) {
  if (!text_.empty()) boundaries_.push_back({kind, size()});
}

void SynthText::say(std::string_view sentences, const Slots& slots) {
  const auto put = [&](char letter) {
    const bool space = letter == ' ' || letter == '\n';
    if (space && !text_.empty() && text_.back() != ' ' && text_.back() != '\n') {
      mark(Boundary::Kind::kWord);
      ++words_;
    }
    if (capital_ && letter >= 'a' && letter <= 'z') letter = static_cast<char>(letter - 'a' + 'A');
    if ((letter >= 'A' && letter <= 'Z')) capital_ = false;
    text_ += letter;
  };
  if (sentences_ > 0 && !text_.empty()) put(' ');
  ++sentences_;
  for (std::size_t place = 0; place < sentences.size(); ++place) {
    if (sentences[place] == '{') {
      const auto end = sentences.find('}', place);
      const auto name = sentences.substr(place + 1, end - place - 1);
      const auto slot = std::find_if(slots.begin(), slots.end(), [&](const auto& candidate) {
        return candidate.first == name;
      });
      if (slot == slots.end())
        throw std::logic_error("SynthText: no slot for " + std::string(sentences));
      for (const char letter : slot->second) put(letter);
      place = end;
    } else if (sentences[place] == '|') {
      bool ends_sentence = false;
      static constexpr std::string_view kClosing = ",.;:!?\"";
      while (place + 1 < sentences.size() &&
             kClosing.find(sentences[place + 1]) != std::string_view::npos) {
        const char letter = sentences[++place];
        ends_sentence = ends_sentence || letter == '.' || letter == '!' || letter == '?';
        put(letter);
      }
      mark(Boundary::Kind::kPhrase);
      if (ends_sentence) {
        mark(Boundary::Kind::kSentence);
        capital_ = capitals_;
      }
    } else {
      put(sentences[place]);
    }
  }
}

void SynthText::end_paragraph(std::string_view line_ends) {
  mark(Boundary::Kind::kWord);
  ++words_;
  mark(Boundary::Kind::kParagraph);
  text_ += line_ends;
  sentences_ = 0;
}

void SynthText::finish(SynthDocument& document) {
  end_paragraph("\n");
  std::sort(boundaries_.begin(), boundaries_.end(), [](const Boundary& a, const Boundary& b) {
    return std::pair(a.offset, a.kind) < std::pair(b.offset, b.kind);
  });
  document.text = std::move(text_);
  document.boundaries = std::move(boundaries_);
}

SynthTask synth_task(std::string_view name) {
  for (std::size_t i = 0; i < std::size(kTaskNames); ++i)
    if (kTaskNames[i] == name) return static_cast<SynthTask>(i);
  throw ConfigError("--task",
                    "unknown task \"" + std::string(name) +
                        "\", wanted stories, copy, induction or recall" +
                        did_you_mean(name, {std::begin(kTaskNames), std::end(kTaskNames)}));
}

std::string_view synth_task_name(SynthTask task) {
  return kTaskNames[static_cast<std::size_t>(task)];
}

SynthDocument synth_document(SynthTask task, std::uint64_t seed, std::uint64_t index) {
  const std::uint64_t key = splitmix64(splitmix64(seed, static_cast<std::uint64_t>(task)), index);
  switch (task) {
    case SynthTask::kCopy:
      return make_copy(key);
    case SynthTask::kInduction:
      return make_induction(key);
    case SynthTask::kRecall:
      return make_recall(key);
    default:
      return make_story(key);
  }
}

SynthReport write_synth(const SynthOptions& options, const std::filesystem::path& directory,
                        bool quiet) {
  check(options);
  const MadeDirectories made(directory);
  const auto lock = FileLock::of_directory(directory);
  refuse_foreign(directory);
  const auto document = [&](std::uint64_t index) {
    if (!quiet && messages_closed()) interrupt_by(SIGPIPE);
    throw_if_interrupted(directory.string());
    return synth_document(options.task, options.seed, index);
  };
  SynthReport report;
  nlohmann::ordered_json files;

  const auto wanted_bytes = static_cast<std::int64_t>(options.megabytes * 1e6);
  const bool by_count = options.stories > 0;
  Output train(directory / "train.txt");
  Progress progress("writing " + (directory / "train.txt").string(),
                    by_count ? options.stories : wanted_bytes, quiet);
  while (by_count ? report.train_documents < options.stories : train.size() < wanted_bytes) {
    const auto one = document(static_cast<std::uint64_t>(report.train_documents++));
    write_document(train, one);
    report.words += count_words(one);
    progress.update(by_count ? report.train_documents : train.size());
  }
  progress.finish();
  report.train_bytes = train.size();

  Output valid(directory / "valid.txt"), boundaries(directory / "boundaries.jsonl");
  const auto share = static_cast<double>(report.train_documents) * options.valid_fraction;
  while (report.valid_documents < static_cast<std::int64_t>(std::ceil(share))) {
    const auto one = document(kValidFirst + static_cast<std::uint64_t>(report.valid_documents));
    boundaries.write(boundary_line(one, report.valid_documents++, valid.size()));
    write_document(valid, one);
  }
  report.valid_bytes = valid.size();

  Output pairs(directory / "pairs.jsonl");
  for (; report.pairs < options.pairs; ++report.pairs) {
    const auto one = document(kPairsFirst + static_cast<std::uint64_t>(report.pairs));
    const auto prompt_end = static_cast<std::size_t>(one.prompt_end);
    const nlohmann::ordered_json line{
        {"id", std::string(synth_task_name(options.task)) + "-" + std::to_string(report.pairs)},
        {"prompt", one.text.substr(0, prompt_end)},
        {"reference",
         one.text.substr(prompt_end, static_cast<std::size_t>(one.reference_end) - prompt_end)}};
    pairs.write(line.dump() + "\n");
  }

  // Empty until all is there: the files are known to be ours, and not to be whole.
  write_file(directory / kManifest, "");
  files["train.txt"] = train.commit();
  files["valid.txt"] = valid.commit();
  files["boundaries.jsonl"] = boundaries.commit();
  files["pairs.jsonl"] = pairs.commit();
  const nlohmann::ordered_json manifest{{"task", synth_task_name(options.task)},
                                        {"seed", options.seed},
                                        {"stories", options.stories},
                                        {"megabytes", options.megabytes},
                                        {"valid_fraction", options.valid_fraction},
                                        {"separator", "<|endoftext|>"},
                                        {"train_documents", report.train_documents},
                                        {"valid_documents", report.valid_documents},
                                        {"pairs", report.pairs},
                                        {"train_bytes", report.train_bytes},
                                        {"valid_bytes", report.valid_bytes},
                                        {"train_words", report.words},
                                        {"xxh3_128", files}};
  write_file(directory / kManifest, manifest.dump(2) + "\n");
  return report;
}

}  // namespace rwkvx

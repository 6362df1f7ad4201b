#include "rwkvx/synth/write.h"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <nlohmann/json.hpp>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/lock.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"

namespace rwkvx {
namespace {

constexpr std::string_view kSeparatorLine = "<|endoftext|>\n";
// Each file takes its documents from its own range of numbers, so none is in two.
constexpr std::uint64_t kValidFirst = std::uint64_t{1} << 40, kPairsFirst = std::uint64_t{1} << 41;

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
    throw ConfigError("--stories",
                      "expected 0 to 1000000000, got " + std::to_string(options.stories));
  if (options.stories == 0 && !(options.megabytes > 0 && options.megabytes <= 1'000'000))
    throw ConfigError("--megabytes", "expected a size above 0 and up to 1000000, got " +
                                         std::to_string(options.megabytes));
  if (!(options.valid_fraction >= 0 && options.valid_fraction <= 1))
    throw ConfigError("--valid-fraction",
                      "expected 0 to 1, got " + std::to_string(options.valid_fraction));
  if (options.pairs < 0 || options.pairs > 100'000'000)
    throw ConfigError("--pairs", "expected 0 to 100000000, got " + std::to_string(options.pairs));
}

}  // namespace

SynthReport write_synth(const SynthOptions& options, const std::filesystem::path& directory,
                        bool quiet) {
  check(options);
  const MadeDirectories made(directory);
  const auto lock = FileLock::of_directory(directory);
  refuse_foreign(directory);
  const auto document = [&](std::uint64_t index) {
    if (!quiet && messages_closed()) interrupt_by(SIGPIPE);
    throw_if_interrupted(directory.string());
    return synth_document(*options.task, options.seed, index);
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
        {"id", std::string(options.task->name) + "-" + std::to_string(report.pairs)},
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
  const nlohmann::ordered_json manifest{{"task", options.task->name},
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

#include "rwkvx/study/data_sets.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/data/prompt_pairs.h"
#include "rwkvx/eval/pairs.h"
#include "study/answers.h"
#include "study/sources.h"

namespace rwkvx {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::size_t kSpanWords = 8, kLineBytes = 40;

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    const bool space =
        i == text.size() || text[i] == ' ' || text[i] == '\n' || text[i] == '\t' || text[i] == '\r';
    if (!space) continue;
    if (i > begin) words.push_back(text.substr(begin, i - begin));
    begin = i + 1;
  }
  return words;
}

// Spans of words as hashes of their number and place: equal spans have equal ones.
std::vector<std::uint64_t> spans_of(std::string_view text) {
  const auto words = words_of(text);
  std::vector<std::uint64_t> spans;
  for (std::size_t i = 0; i + kSpanWords <= words.size(); ++i) {
    std::uint64_t hash = 1469598103934665603u;
    for (std::size_t j = i; j < i + kSpanWords; ++j) {
      for (const unsigned char c : words[j]) hash = (hash ^ c) * 1099511628211u;
      hash = (hash ^ 0x20) * 1099511628211u;
    }
    spans.push_back(hash);
  }
  return spans;
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const auto end = std::min(text.find('\n', begin), text.size());
    if (end - begin >= kLineBytes) lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

// The first `bytes` bytes up to a line's end, or all.
std::string first_lines(std::string text, double megabytes) {
  const auto bytes = static_cast<std::size_t>(megabytes * 1e6);
  if (text.size() <= bytes) return text;
  const auto end = text.rfind('\n', bytes);
  text.resize(end == std::string::npos || end < bytes / 2 ? bytes : end + 1);
  return text;
}

std::string read_sources(const std::vector<std::string>& names,
                         const std::filesystem::path& sources) {
  std::string text;
  for (const auto& name : names) {
    const auto path = sources / name;
    require_source(path);
    text += read_file(path);
    if (!text.ends_with('\n')) text += '\n';
  }
  return text;
}

struct Texts {
  std::string train, test;
  std::vector<PromptPair> prompts;
  std::vector<std::string> prompt_lines;  // as they stand in the file of prompts, where given
};

// One document per prompt and reference; of a test file the first reference alone, and its lines.
void read_pairs(const std::filesystem::path& path, double megabytes, std::string& text,
                std::vector<std::string>* lines) {
  for_each_pair(path, [&](const std::string& asked, const std::vector<std::string>& references) {
    const auto prompt = asked + "\n";
    const auto documents = lines == nullptr ? references.size() : 1;
    for (std::size_t i = 0; i < documents; ++i) {
      const auto added = prompt + references[i] + "\n" + DataConfig().separator + "\n";
      if (static_cast<double>(text.size() + added.size()) > megabytes * 1e6) return false;
      text += added;
    }
    if (lines != nullptr)
      lines->push_back(
          ordered_json{{"id", lines->size()}, {"prompt", prompt}, {"reference", references}}
              .dump());
    return true;
  });
}

Texts read_texts_of(const DataSetConfig& config, const MeasureConfig& measure,
                    const std::filesystem::path& sources, const std::filesystem::path& folder) {
  Texts texts;
  if (!config.synth.empty()) {
    const auto made = write_synth_set(config, measure, folder);
    texts.train = read_file(made.train);
    texts.test = read_file(made.test);
    LineReader reader(made.pairs);
    for (std::string line; line.clear(), reader.append(line);) texts.prompt_lines.push_back(line);
    return texts;
  }
  if (!config.train_pairs.empty()) {
    read_pairs(sources / config.train_pairs, config.megabytes, texts.train, nullptr);
    read_pairs(sources / config.test_pairs, config.test_megabytes, texts.test, &texts.prompt_lines);
    if (texts.prompt_lines.size() > static_cast<std::size_t>(measure.prompts))
      texts.prompt_lines.resize(static_cast<std::size_t>(measure.prompts));
    return texts;
  }
  texts.train = read_sources(config.train, sources);
  if (config.test.empty()) {
    const auto cut = texts.train.find('\n', texts.train.size() - texts.train.size() / 10);
    if (cut == std::string::npos)
      throw DataError(config.train.front(),
                      "has no line break in its last tenth, where the test text is cut off");
    texts.test = texts.train.substr(cut + 1);
    texts.train.resize(cut + 1);
  } else {
    texts.test = read_sources(config.test, sources);
  }
  texts.train = first_lines(std::move(texts.train), config.megabytes);
  texts.test = first_lines(std::move(texts.test), config.test_megabytes);
  return texts;
}

DataSet described(const std::filesystem::path& folder, const json& value) {
  const JsonObject about(value, (folder / "about.json").string());
  DataSet set;
  set.folder = folder;
  set.hash = about.text("hash");
  set.train_bytes = about.integer("train_bytes");
  set.test_bytes = about.integer("test_bytes");
  set.prompts_count = about.integer("prompts");
  const auto& overlap = about.array("overlap");
  std::vector<std::int64_t> o;
  for (const auto& one : overlap)
    if (one.is_number_integer()) o.push_back(one.get<std::int64_t>());
  if (o.size() != 4)
    throw DataError((folder / "about.json").string(),
                    "field \"overlap\": expected four whole numbers, got " + json_shown(overlap));
  set.overlap = {o[0], o[1], o[2], o[3]};
  return set;
}

}  // namespace

std::optional<DataSet> made_data_set(const std::filesystem::path& folder) {
  const auto path = folder / "about.json";
  if (!std::filesystem::exists(path)) return std::nullopt;
  return described(folder, parse_foreign_json(read_file(path), path.string()));
}

Overlap text_overlap(std::string_view train, std::string_view test) {
  Overlap overlap;
  const auto train_lines = lines_of(train);
  const std::unordered_set<std::string_view> lines(train_lines.begin(), train_lines.end());
  for (const auto& line : lines_of(test)) {
    ++overlap.lines;
    overlap.lines_in_training += lines.contains(line) ? 1 : 0;
  }
  const auto train_spans = spans_of(train);
  const std::unordered_set<std::uint64_t> spans(train_spans.begin(), train_spans.end());
  for (const auto span : spans_of(test)) {
    ++overlap.spans;
    overlap.spans_in_training += spans.contains(span) ? 1 : 0;
  }
  return overlap;
}

DataSet prepare_data_set(const std::string& name, const DataSetConfig& config,
                         const MeasureConfig& measure, const std::filesystem::path& sources,
                         const std::filesystem::path& folder) {
  const auto about_path = folder / "about.json";
  const json settings = {{"data", settings_key(config)},
                         {"prompts", measure.prompts},
                         {"prompt_words", measure.prompt_words},
                         {"reference_words", measure.reference_words}};
  if (std::filesystem::exists(about_path)) {
    const auto about = parse_json_or_null(read_file(about_path));
    if (about.is_object() && about.contains("settings") && about["settings"] == settings)
      return described(folder, about);
  }
  std::filesystem::create_directories(folder);
  const auto describe = [&](DataSet set) {
    const auto& o = set.overlap;
    const json about = {{"settings", settings},
                        {"hash", set.hash},
                        {"train_bytes", set.train_bytes},
                        {"test_bytes", set.test_bytes},
                        {"prompts", set.prompts_count},
                        {"overlap", {o.lines, o.lines_in_training, o.spans, o.spans_in_training}}};
    write_file(about_path, about.dump(2) + "\n");
    return set;
  };
  if (config.learned() != Learned::kText) {
    const auto lines = read_answer_lines(config, measure, sources, folder);
    if (lines.train.empty() || lines.valid.empty() || lines.test.empty())
      throw DataError(name, "too few lines to train, validate and test on");
    DataSet set;
    set.folder = folder;
    for (const auto& [file, text] :
         {std::pair{"train.jsonl", &lines.train}, std::pair{"valid.jsonl", &lines.valid},
          std::pair{"prompts.jsonl", &lines.test}})
      write_file(folder / file, *text);
    set.hash =
        hash_bytes(hash_bytes(lines.train) + hash_bytes(lines.valid) + hash_bytes(lines.test));
    set.train_bytes = static_cast<std::int64_t>(lines.train.size() + lines.valid.size());
    set.test_bytes = static_cast<std::int64_t>(lines.test.size());
    set.prompts_count = lines.tests;
    set.overlap = text_overlap(lines.train_text, lines.test_text);
    return describe(std::move(set));
  }
  auto texts = read_texts_of(config, measure, sources, folder);
  if (texts.train.size() < 2048 || texts.test.size() < 1024)
    throw DataError(
        name, "too little text: expected 2048 bytes for training and 1024 for testing, got " +
                  std::to_string(texts.train.size()) + " and " + std::to_string(texts.test.size()));
  DataSet set;
  set.folder = folder;
  write_file(set.train(), texts.train);
  write_file(set.test(), texts.test);
  if (texts.prompt_lines.empty()) {
    DataConfig data;
    data.train = {set.train().string()};
    data.valid = {set.test().string()};
    const auto pairs =
        cut_pairs(data, {measure.prompts, measure.prompt_words, measure.reference_words});
    write_pairs(set.prompts(), pairs);
    set.prompts_count = static_cast<std::int64_t>(pairs.size());
  } else {
    std::string lines;
    for (const auto& line : texts.prompt_lines) lines += line + "\n";
    write_file(set.prompts(), lines);
    set.prompts_count = static_cast<std::int64_t>(texts.prompt_lines.size());
  }
  set.hash = hash_bytes(hash_file(set.train()) + hash_file(set.test()) + hash_file(set.prompts()));
  set.train_bytes = static_cast<std::int64_t>(texts.train.size());
  set.test_bytes = static_cast<std::int64_t>(texts.test.size());
  set.overlap = text_overlap(texts.train, texts.test);
  return describe(std::move(set));
}

}  // namespace rwkvx

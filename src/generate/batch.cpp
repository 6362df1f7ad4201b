#include "rwkvx/generate/batch.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/field.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/json_copy.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/json_line.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/text_file.h"
#include "rwkvx/text/utf8.h"

namespace rwkvx {
namespace {

using nlohmann::ordered_json;

// Continuations that may wait for an earlier one that is not done, for each slot.
constexpr std::int64_t kWaiting = 64;

// A string value's text.
std::string text_of(std::string_view value) {
  std::string room;
  room.reserve(value.size());
  return std::string(json_text(value, room));
}

// A line of the input: its members as they are written there, and the prompt.
struct PromptLine {
  std::vector<std::pair<std::string, std::string>> members;  // name, value as JSON
  std::string prompt;
};

// The members of the input, then ours in place of those of the same name.
std::string line_text(const PromptLine& line, const ordered_json& ours) {
  std::string text = "{";
  const auto add = [&](const std::string& name, const std::string& value) {
    text += (text.size() > 1 ? "," : "") + json_dump(ordered_json(name)) + ":" + value;
  };
  for (const auto& [name, value] : line.members)
    if (!ours.contains(name)) add(name, value);
  for (const auto& item : ours.items()) add(item.key(), json_dump(item.value()));
  return replace_invalid_utf8(text) + "}\n";
}

// The prompts of a file, one JSON object per line.
class PromptLines {
 public:
  PromptLines(const std::filesystem::path& path, std::string field)
      : path_(path.string()),
        field_(std::move(field)),
        text_(open_lines(path_)),
        file_(text_->path(), std::ios::binary) {
    if (!file_) throw FileError(path_, std::string("cannot open: ") + std::strerror(errno));
  }
  // The next object that has a prompt, or nothing at the end.
  std::optional<PromptLine> next() {
    for (std::string text; std::getline(file_, text);) {
      const auto where = path_ + ":" + std::to_string(++number_);
      if (number_ == 1 && text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
      if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
      try {
        json_.read(text);
      } catch (const JsonLineError& error) {
        throw DataError(where, is_json(text) ? "wanted a JSON object"
                                             : "is not valid JSON: " + std::string(error.what()));
      }
      const auto value = json_.find(field_);
      if (value.empty()) throw DataError(where, "has no field \"" + field_ + "\"");
      if (json_kind(value) != JsonKind::kString)
        throw DataError(where, "field \"" + field_ + "\" must be a string");
      PromptLine line{{}, text_of(value)};
      for (const auto& name : json_.names()) {
        const auto same = [&](const auto& member) { return member.first == name; };
        if (std::none_of(line.members.begin(), line.members.end(), same))
          line.members.emplace_back(name, json_copy(json_.find(name)));
      }
      return line;
    }
    return std::nullopt;
  }

 private:
  std::string path_, field_;
  std::shared_ptr<const TextFile> text_;
  std::ifstream file_;
  JsonLine json_;
  std::int64_t number_ = 0;
};

}  // namespace

std::int64_t generate_batch(Generator& generator, const GenerateConfig& config,
                            const BatchOptions& options) {
  const std::string settings =
      hash_bytes(generator.weights_hash() + generator.tokenizer().hash() + generator.device_kind() +
                 json_dump(config_to_json(config)) + std::to_string(options.samples) +
                 options.prompt_field)
          .substr(0, 16);
  std::int64_t total = 0;
  for (PromptLines counting(options.input, options.prompt_field); counting.next();)
    total += options.samples;
  if (total == 0) throw DataError(options.input.string(), "holds no prompts");

  AppendFile output(options.output);
  if (options.overwrite) output.clear();
  PromptLines prompts(options.input, options.prompt_field);
  std::map<std::int64_t, PromptLine> open;  // prompts in work, by number
  std::int64_t written = 0, asked = 0;
  // An unfinished line alone does not show that the file is ours.
  if (output.size() == 0 && output.unfinished() > 0)
    throw DataError(
        options.output.string(),
        "holds text that is not a whole line of continuations; use --overwrite to begin "
        "anew, or another --output");
  if (output.size() > 0) {  // what is there already
    std::ifstream before(options.output, std::ios::binary);
    std::optional<PromptLine> prompt;
    JsonLine line;
    const auto is_text = [&](const std::string& name, const std::string& wanted) {
      const auto value = line.find(name);
      return !value.empty() && json_kind(value) == JsonKind::kString &&
             replace_invalid_utf8(text_of(value)) == replace_invalid_utf8(wanted);
    };
    for (std::string text; before.tellg() < output.size() && std::getline(before, text);
         ++written) {
      const auto where = options.output.string() + ":" + std::to_string(written + 1);
      bool ours = true;
      try {
        line.read(text);
        ours = is_text("settings", settings);
      } catch (const JsonLineError&) {
        ours = false;
      }
      if (!ours)
        throw DataError(where,
                        "was not made with this model and these settings; use --overwrite to "
                        "begin anew, or another --output");
      if (written % options.samples == 0) {
        prompt = prompts.next();
        ++asked;
      }
      if (!prompt || !is_text(options.prompt_field, prompt->prompt))
        throw DataError(where, "is of another prompt than " + options.input.string() +
                                   "; use --overwrite to begin anew");
    }
    // A prompt of which some samples are written is asked for again.
    if (written % options.samples != 0) open[--asked] = *prompt;
  }
  output.cut();
  const std::int64_t first_request = asked;
  bool again = !open.empty();

  Progress bar("generating", total, options.quiet);
  bar.start_from(written);
  const InterruptGuard guard;
  std::map<std::int64_t, std::string> waiting;  // finished lines by number
  const auto next = [&]() -> std::optional<Generator::Request> {
    if (!again) {
      auto line = prompts.next();
      if (!line) return std::nullopt;
      open[asked] = std::move(*line);
    }
    again = false;
    const auto number = asked++;
    return Generator::Request{
        open[number].prompt, static_cast<std::uint64_t>(number * options.samples), options.samples};
  };
  const auto done = [&](std::int64_t request, std::int64_t sample, const Continuation& result) {
    const auto number = first_request + request, place = number * options.samples + sample;
    if (place < written) return;
    ordered_json line;
    if (options.samples > 1) line["sample"] = sample;
    line["prediction"] = result.text;
    line["tokens"] = result.tokens;
    line["logprob"] = result.logprob;
    line["ended_by"] = result.ended_by;
    line["settings"] = settings;
    waiting[place] = line_text(open.at(number), line);
    while (!waiting.empty() && waiting.begin()->first == written) {
      output.append(waiting.begin()->second);
      waiting.erase(waiting.begin());
      ++written;
      if (written % options.samples == 0) open.erase(written / options.samples - 1);
    }
    bar.update(written);
  };
  // One long continuation must not let the others pile up: then the slots run empty first.
  const auto bounded = [&]() -> std::optional<Generator::Request> {
    if (asked * options.samples - written > kWaiting * options.slots) return std::nullopt;
    return next();
  };
  while (written < total && !interrupted()) {
    const auto before = written;
    const auto base = asked;
    generator.generate_many(
        options.slots, config, bounded,
        [&](std::int64_t request, std::int64_t sample, const Continuation& one) {
          done(base - first_request + request, sample, one);
        });
    if (written == before) break;
  }
  bar.finish();
  return written;
}

}  // namespace rwkvx

#include "rwkvx/generate/batch.h"

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "rwkvx/base/error.h"
#include "rwkvx/base/field.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"

namespace rwkvx {
namespace {

using nlohmann::ordered_json;

// Continuations that may wait for an earlier one that is not done, for each slot.
constexpr std::int64_t kWaiting = 64;

std::string line_text(const ordered_json& line) {
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

// The prompts of a file, one JSON object per line.
class PromptLines {
 public:
  PromptLines(const std::filesystem::path& path, std::string field)
      : path_(path.string()), field_(std::move(field)), file_(path, std::ios::binary) {
    if (!file_) throw FileError(path_, "cannot be read");
  }
  // The next object that has a prompt, or null at the end.
  ordered_json next() {
    for (std::string text; std::getline(file_, text);) {
      const auto where = path_ + ":" + std::to_string(++number_);
      if (number_ == 1 && text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
      if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
      auto line = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
      if (line.is_discarded()) throw DataError(where, "is not valid JSON (or not valid UTF-8)");
      if (!line.is_object()) throw DataError(where, "wanted a JSON object");
      if (!line.contains(field_)) throw DataError(where, "has no field \"" + field_ + "\"");
      if (!line[field_].is_string())
        throw DataError(where, "field \"" + field_ + "\" must be a string");
      return line;
    }
    return nullptr;
  }

 private:
  std::string path_, field_;
  std::ifstream file_;
  std::int64_t number_ = 0;
};

}  // namespace

std::int64_t generate_batch(Generator& generator, const GenerateConfig& config,
                            const BatchOptions& options) {
  const std::string settings = hash_bytes(generator.weights_hash() + generator.tokenizer().hash() +
                                          generator.device_kind() + config_to_json(config).dump() +
                                          std::to_string(options.samples) + options.prompt_field)
                                   .substr(0, 16);
  std::int64_t total = 0;
  for (PromptLines counting(options.input, options.prompt_field); !counting.next().is_null();)
    total += options.samples;
  if (total == 0) throw DataError(options.input.string(), "holds no prompts");

  AppendFile output(options.output);
  if (options.overwrite) output.clear();
  PromptLines prompts(options.input, options.prompt_field);
  std::map<std::int64_t, ordered_json> open;  // prompts in work, by number
  std::int64_t written = 0, asked = 0;
  // An unfinished line alone does not show that the file is ours.
  if (output.size() == 0 && output.unfinished() > 0)
    throw DataError(
        options.output.string(),
        "holds text that is not a whole line of continuations; use --overwrite to begin "
        "anew, or another --output");
  if (output.size() > 0) {  // what is there already
    std::ifstream before(options.output, std::ios::binary);
    ordered_json prompt;
    for (std::string text; before.tellg() < output.size() && std::getline(before, text);
         ++written) {
      const auto where = options.output.string() + ":" + std::to_string(written + 1);
      const auto line = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
      if (!line.is_object() || line.value("settings", "") != settings)
        throw DataError(where,
                        "was not made with this model and these settings; use --overwrite to "
                        "begin anew, or another --output");
      if (written % options.samples == 0) {
        prompt = prompts.next();
        ++asked;
      }
      if (prompt.is_null() || line.value(options.prompt_field, "") != prompt[options.prompt_field])
        throw DataError(where, "is of another prompt than " + options.input.string() +
                                   "; use --overwrite to begin anew");
    }
    // A prompt of which some samples are written is asked for again.
    if (written % options.samples != 0) open[--asked] = prompt;
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
      if (line.is_null()) return std::nullopt;
      open[asked] = std::move(line);
    }
    again = false;
    const auto number = asked++;
    return Generator::Request{open[number][options.prompt_field].get<std::string>(),
                              static_cast<std::uint64_t>(number * options.samples),
                              options.samples};
  };
  const auto done = [&](std::int64_t request, std::int64_t sample, const Continuation& result) {
    const auto number = first_request + request, place = number * options.samples + sample;
    if (place < written) return;
    auto line = open.at(number);
    if (options.samples > 1) line["sample"] = sample;
    line["prediction"] = result.text;
    line["tokens"] = result.tokens;
    line["logprob"] = result.logprob;
    line["ended_by"] = result.ended_by;
    line["settings"] = settings;
    waiting[place] = line_text(line);
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

#include "rwkvx/generate/batch.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "generate/text_lines.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/field.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/json_line.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/utf8.h"
#include "rwkvx/generate/events.h"

namespace rwkvx {
namespace {

using nlohmann::ordered_json;

// Continuations that may wait for an earlier one that is not done, for each slot.
constexpr std::int64_t kWaiting = 64;

// The members that a line of the output has beside those of its prompt's line.
std::vector<std::string> own_members(const BatchOptions& options) {
  std::vector<std::string> names = {"prediction", "tokens", "logprob", "ended_by", "settings"};
  if (options.samples > 1) names.emplace_back("sample");
  if (options.top_logprobs > 0) names.emplace_back("token_logprobs");
  return names;
}

// The prompts of the input.
class PromptLines : public TextLines {
 public:
  PromptLines(const BatchOptions& options, bool arrays)
      : TextLines(options.input.string(), options.input_name, Kind::kJson, options.prompt_field,
                  own_members(options), arrays) {}
};

// What an output holds when a run begins.
struct Earlier {
  std::int64_t written = 0;      // whole lines
  std::int64_t asked = 0;        // prompts that they are of
  std::optional<TextLine> last;  // the last of these prompts
};

// Goes through the whole lines of an output, `size` bytes, beside the prompts, which are read as
// far. Throws DataError for the first line that is not the continuation of its prompt with these
// settings. use(line as it stands, line with the prompt's members as they are in the input).
template <class Use>
Earlier read_output(const BatchOptions& options, std::int64_t size, const std::string& settings,
                    PromptLines& prompts, const Use& use) {
  Earlier earlier;
  const auto own = own_members(options);
  std::ifstream file(options.output, std::ios::binary);
  std::optional<TextLine> prompt;
  JsonLine line;
  const auto is_text = [&](const std::string& name, const std::string& wanted) {
    const auto value = line.find(name);
    if (value.starts_with('[')) return value == wanted;
    return !value.empty() && json_kind(value) == JsonKind::kString &&
           replace_invalid_utf8(json_string(value)) == replace_invalid_utf8(wanted);
  };
  for (std::string text; file.tellg() < size && std::getline(file, text); ++earlier.written) {
    const auto where = options.output.string() + ":" + std::to_string(earlier.written + 1);
    bool ours = true;
    try {
      line.read(text);
      ours = is_text("settings", settings) &&
             std::all_of(own.begin(), own.end(),
                         [&](const auto& name) { return !line.find(name).empty(); });
    } catch (const JsonLineError&) {
      ours = false;
    }
    if (!ours)
      throw DataError(where,
                      "was not made with this model and these settings; use --overwrite to "
                      "start over, or another --output");
    if (earlier.written % options.samples == 0) {
      prompt = prompts.next();
      ++earlier.asked;
    }
    if (!prompt || !is_text(options.prompt_field, prompt->text))
      throw DataError(where, "is of another prompt than " + prompts.name() +
                                 "; use --overwrite to start over, or another --output");
    JsonMembers kept;  // in the order in which they were written
    for (const auto& name : line.names())
      if (std::find(own.begin(), own.end(), name) != own.end())
        kept.emplace_back(name, std::string(line.find(name)));
    use(text, members_line(prompt->members, kept));
  }
  earlier.last = std::move(prompt);
  return earlier;
}

// "3 1 4" as "[3,1,4]".
std::string id_array(std::string_view text) {
  std::string array = "[";
  for (const char c : text)
    if (c != ' ' || array.size() > 1) array += c == ' ' ? ',' : c;
  return array + "]";
}

}  // namespace

std::int64_t generate_batch(Generator& generator, const GenerateConfig& config,
                            const BatchOptions& options) {
  const std::string settings =
      hash_bytes(generator.weights_hash() + generator.tokenizer().hash() + generator.device_kind() +
                 json_dump(settings_key(config)) + std::to_string(options.samples) +
                 options.prompt_field +
                 (options.top_logprobs > 0 ? " " + std::to_string(options.top_logprobs) : ""))
          .substr(0, 16);
  for (const auto& name : own_members(options))
    if (options.prompt_field == name)
      throw ConfigError("--prompt-field", "\"" + name +
                                              "\" is a field that the output writes itself; "
                                              "rename it in the input");
  std::int64_t total = 0;
  const bool ids = generator.tokenizer().kind() == "ids";
  PromptLines counting(options, ids);
  const auto& input_name = counting.name();
  while (counting.next()) total += options.samples;
  if (total == 0) throw DataError(input_name, "holds no prompts");

  const bool to_file = !options.write_line;
  std::optional<AppendFile> output;
  std::optional<PromptLines> prompts(std::in_place, options, ids);
  std::map<std::int64_t, TextLine> open;  // prompts in work, by number
  std::int64_t written = 0, asked = 0;
  if (to_file) {
    output.emplace(options.output);
    if (options.overwrite) output->clear();
    // An unfinished line alone does not show that the file is ours.
    if (output->size() == 0 && output->unfinished() > 0)
      throw DataError(options.output.string(),
                      "holds text that is not a whole line of continuations; use --overwrite to "
                      "start over, or another --output");
  }
  if (to_file && output->size() > 0) {
    bool changed = false;
    const auto size = output->size();
    auto earlier = read_output(options, size, settings, *prompts,
                               [&](const std::string& text, const std::string& current) {
                                 changed = changed || text + "\n" != current;
                               });
    if (changed) {
      AtomicFile rewritten(options.output);
      prompts.emplace(options, ids);
      read_output(
          options, size, settings, *prompts,
          [&](const std::string&, const std::string& current) { rewritten.write(current); });
      rewritten.commit();
      output.reset();
      output.emplace(options.output);
      if (output->size() != static_cast<std::int64_t>(rewritten.size()))
        throw FileError(options.output.string(), "was changed by another process");
    }
    written = earlier.written;
    asked = earlier.asked;
    // A prompt of which some samples are written is asked for again.
    if (written % options.samples != 0) open[--asked] = std::move(*earlier.last);
  }
  if (to_file) output->cut();
  const std::int64_t first_request = asked;
  bool again = !open.empty();

  Progress bar("generating", total, options.quiet);
  bar.start_from(written);
  const InterruptGuard guard;
  std::map<std::int64_t, std::string> waiting;  // finished lines by number
  // The tokens of those in work, by number, where they are asked for.
  std::map<std::int64_t, ordered_json> drawn;
  const auto place_of = [&](std::int64_t request, std::int64_t sample) {
    return (first_request + request) * options.samples + sample;
  };
  const auto next = [&]() -> std::optional<Generator::Request> {
    if (!again) {
      auto line = prompts->next();
      if (!line) return std::nullopt;
      open[asked] = std::move(*line);
    }
    again = false;
    const auto number = asked++;
    return Generator::Request{
        open[number].text, static_cast<std::uint64_t>(number * options.samples), options.samples};
  };
  const auto done = [&](std::int64_t request, std::int64_t sample, const Continuation& result) {
    const auto number = first_request + request, place = place_of(request, sample);
    auto tokens = drawn.extract(place);
    if (place < written) return;
    JsonMembers own;
    const auto add = [&](const char* name, const ordered_json& value) {
      own.emplace_back(name, json_dump(value));
    };
    if (options.samples > 1) add("sample", sample);
    if (ids)
      own.emplace_back("prediction", id_array(result.text));
    else
      add("prediction", result.text);
    add("tokens", result.tokens);
    add("logprob", result.logprob);
    add("ended_by", result.ended_by);
    if (options.top_logprobs > 0)
      add("token_logprobs", tokens ? tokens.mapped() : ordered_json::array());
    add("settings", settings);
    waiting[place] = members_line(open.at(number).members, own);
    while (!waiting.empty() && waiting.begin()->first == written) {
      if (to_file)
        output->append(waiting.begin()->second);
      else if (!interrupted() && !options.write_line(waiting.begin()->second))
        interrupt_by(SIGPIPE);
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
    const auto base = asked - first_request;
    Generator::ShowSampleToken show;
    if (options.top_logprobs > 0)
      show = [&](std::int64_t request, std::int64_t sample, const DrawnToken& one) {
        drawn[place_of(base + request, sample)].push_back(
            token_logprob_json(generator.tokenizer(), one));
      };
    generator.generate_many(
        options.slots, config, bounded,
        [&](std::int64_t request, std::int64_t sample, const Continuation& one) {
          done(base + request, sample, one);
        },
        show, options.top_logprobs);
    if (written == before) break;
  }
  bar.finish();
  if (written < total && !interrupted())
    throw Error(input_name, "only " + std::to_string(written) + " of " + std::to_string(total) +
                                " continuations were written; was the file changed meanwhile?");
  return written;
}

}  // namespace rwkvx

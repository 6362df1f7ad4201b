#include "rwkvx/eval/predictions.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "eval/line_fields.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/json_copy.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/json_line.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/utf8.h"
#include "rwkvx/eval/pairs.h"

namespace rwkvx {
namespace {

constexpr std::int64_t kSlots = 16;  // sequences continued together

// A prompt being continued. Values are JSON, as they were written.
struct Asked {
  std::string id, prompt, reference;
  std::string text;  // the prompt itself
  std::optional<std::string> prediction;
};

}  // namespace

std::string generation_signature(const GenerateConfig& config) {
  const auto values = config_to_json(config), defaults = config_to_json(GenerateConfig());
  std::string text;
  const auto add = [&](const std::string& name, const nlohmann::ordered_json& value) {
    text +=
        (text.empty() ? "" : "|") + name + ":" +
        (name == "samplers" ? value.get<std::string>()
                            : value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
  };
  const std::vector<std::string> always = {"max_new_tokens", "temperature", "top_k", "top_p",
                                           "seed"};
  for (const auto& name : always) add(name, values[name]);
  // The others only where they are not at their defaults.
  for (const auto& [name, value] : values.items()) {
    if (std::find(always.begin(), always.end(), name) != always.end() || value == defaults[name])
      continue;
    for (const auto& one : value.is_array() ? value : nlohmann::ordered_json::array({value}))
      add(name, one);
  }
  return text;
}

std::int64_t write_predictions(Generator& generator, const std::filesystem::path& prompts,
                               const PromptFields& fields, const GenerateConfig& config,
                               const std::filesystem::path& output, bool quiet,
                               ContinuationCache* cache) {
  std::int64_t total = 0;
  for (LineReader counting(prompts); counting.skip();) ++total;
  LineReader reader(prompts);
  AtomicFile file(output);
  Progress bar("generating", total, quiet);
  const InterruptGuard guard;
  std::int64_t asked = 0, written = 0;
  std::map<std::int64_t, Asked> open;  // prompts whose line is not yet written
  std::vector<std::int64_t> requests;  // the number of each request's prompt
  const auto finish = [&](std::int64_t number, std::string text) {
    open.at(number).prediction = std::move(text);
    for (auto first = open.begin(); first != open.end() && first->second.prediction;
         first = open.erase(first), bar.update(++written)) {
      const auto& one = first->second;
      file.write(replace_invalid_utf8(
          "{\"id\":" + one.id + ",\"prompt\":" + one.prompt + ",\"reference\":" + one.reference +
          ",\"prediction\":" + json_dump(nlohmann::json(*one.prediction)) + "}\n"));
    }
  };
  // The next prompt that has no continuation in the cache.
  const auto next = [&]() -> std::optional<Generator::Request> {
    for (std::string text; text.clear(), reader.append(text);) {
      const std::string where = prompts.string() + ":" + std::to_string(reader.lines());
      if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
      JsonLine line;
      read_json_line(text, where, line);
      const auto prompt = field_of(line, fields.prompt, where);
      auto wanted = text_of(prompt, fields.prompt, where);
      const auto number = asked++;
      auto& out = open[number];
      const auto id = line.find("id");
      out.id = id.empty() ? std::to_string(reader.lines()) : json_copy(id);
      out.prompt = json_copy(prompt);
      out.reference = json_copy(field_of(line, fields.reference, where));
      out.text = std::move(wanted);
      const auto sequence = static_cast<std::uint64_t>(number);
      if (auto found = cache == nullptr ? std::nullopt : cache->find(out.text, sequence)) {
        finish(number, std::move(*found));
        continue;
      }
      requests.push_back(number);
      return Generator::Request{open.at(number).text, sequence};
    }
    return std::nullopt;
  };
  generator.generate_many(
      kSlots, config, next, [&](std::int64_t request, std::int64_t, const Continuation& continued) {
        if (interrupted()) return;  // may be cut short
        const auto number = requests[static_cast<std::size_t>(request)];
        if (cache != nullptr)
          cache->add(open.at(number).text, static_cast<std::uint64_t>(number), continued.text);
        finish(number, continued.text);
      });
  if (interrupted()) throw Interrupted("eval", "interrupted before the last prompt");
  bar.finish();
  if (written == 0) throw DataError(prompts.string(), "expected at least one prompt, got none");
  if (written != asked)
    throw Error(prompts.string(), "only " + std::to_string(written) + " of " +
                                      std::to_string(asked) + " prompts were continued");
  file.commit();
  return written;
}

}  // namespace rwkvx

#include "rwkvx/eval/choices.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <deque>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "eval/line_fields.h"
#include "eval/prompt_space.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/statistics.h"
#include "rwkvx/base/utf8.h"

namespace rwkvx {
namespace {

constexpr std::int64_t kSlots = 32;            // continuations scored together
constexpr std::size_t kMostChoices = 1000;     // of an item
constexpr std::size_t kMostLabels = 100;       // of a confusion table
constexpr std::string_view kBetween = "\n\n";  // after an answered example

struct Item {
  std::uint64_t line = 0;
  std::string id, prompt;
  std::vector<std::string> choices;
  std::size_t answer = 0;
  std::string hash() const {
    nlohmann::json all = {prompt, choices, answer};
    return hash_bytes(json_dump(all));
  }
};

// The items of a file of JSON lines.
class ItemReader {
 public:
  ItemReader(const std::filesystem::path& path, std::string prompt_field,
             const ChoiceConfig& config)
      : reader_(path), prompt_field_(std::move(prompt_field)), config_(config) {}

  std::optional<Item> next() {
    for (std::string text; text.clear(), reader_.append(text);) {
      if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
      return read(text);
    }
    return std::nullopt;
  }

 private:
  Item read(const std::string& text) {
    const std::string where = reader_.path().string() + ":" + std::to_string(reader_.lines());
    read_json_line(text, where, json_);
    Item item;
    item.line = reader_.lines();
    item.id = id_of(json_);
    item.prompt = config_.prompt_template.empty()
                      ? text_of(field_of(json_, prompt_field_, where), prompt_field_, where)
                      : fill_template(where);
    const auto& name = config_.choices_field;
    const auto choices = field_of(json_, name, where);
    if (json_kind(choices) != JsonKind::kArray)
      throw DataError(where, "field \"" + name + "\": expected an array of strings, got " +
                                 json_kind_name(choices));
    std::vector<std::string_view> items;
    json_items(choices, items);
    if (items.size() < 2 || items.size() > kMostChoices)
      throw DataError(where, "field \"" + name + "\": expected 2 to " +
                                 std::to_string(kMostChoices) + " choices, got " +
                                 std::to_string(items.size()));
    for (std::size_t k = 0; k < items.size(); ++k) {
      const auto one = name + "[" + std::to_string(k) + "]";
      item.choices.push_back(text_of(items[k], one, where));
      if (item.choices.back().empty())
        throw DataError(where, "field \"" + one +
                                   "\": expected a choice of at least one "
                                   "character, got an empty string");
    }
    item.answer = answer_of(field_of(json_, config_.answer_field, where), item.choices, where);
    return item;
  }

  std::string fill_template(const std::string& where) const {
    std::string text;
    for (std::string_view rest = config_.prompt_template; !rest.empty();) {
      const auto brace = std::min(rest.find_first_of("{}"), rest.size());
      text += rest.substr(0, brace);
      rest.remove_prefix(brace);
      if (rest.starts_with("{{") || rest.starts_with("}}")) {
        text += rest.front();
        rest.remove_prefix(2);
      } else if (!rest.empty()) {  // check() has seen to it that this is a field
        const auto name = std::string(rest.substr(1, rest.find('}') - 1));
        text += text_of(field_of(json_, name, where), name, where);
        rest.remove_prefix(name.size() + 2);
      }
    }
    return text;
  }

  std::size_t answer_of(std::string_view value, const std::vector<std::string>& choices,
                        const std::string& where) const {
    const auto refuse = [&](const std::string& got) -> std::size_t {
      throw DataError(
          where, "field \"" + config_.answer_field + "\": expected an index from 0 to " +
                     std::to_string(choices.size() - 1) + " or one of the choices, got " + got);
    };
    if (json_kind(value) == JsonKind::kString) {
      const auto text = text_of(value, config_.answer_field, where);
      const auto found = std::find(choices.begin(), choices.end(), text);
      if (found == choices.end()) return refuse("another string");
      return static_cast<std::size_t>(found - choices.begin());
    }
    std::size_t index = 0;
    const auto read = std::from_chars(value.data(), value.data() + value.size(), index);
    if (read.ec != std::errc() || read.ptr != value.data() + value.size() ||
        index >= choices.size())
      return refuse(json_kind(value) == JsonKind::kNumber ? std::string(value)
                                                          : json_kind_name(value));
    return index;
  }

  LineReader reader_;
  std::string prompt_field_;
  const ChoiceConfig& config_;
  JsonLine json_;
};

// The answered examples before each prompt.
std::string examples(const ChoiceConfig& config, const std::string& prompt_field) {
  std::string text;
  if (config.few_shot == 0) return text;
  ItemReader reader(config.few_shot_from, prompt_field, config);
  for (std::int64_t k = 0; k < config.few_shot; ++k) {
    const auto item = reader.next();
    if (!item)
      throw DataError(config.few_shot_from, "expected at least " + std::to_string(config.few_shot) +
                                                " items for --few-shot, got " + std::to_string(k));
    text += item->prompt + config.target_delimiter + item->choices[item->answer];
    text += kBetween;
  }
  return text;
}

std::int64_t characters_of(std::string_view text) {
  std::vector<std::uint32_t> codes;
  decode_utf8(text, codes);
  return static_cast<std::int64_t>(codes.size());
}

template <class Take>
nlohmann::json list_of(const std::vector<ChoiceLikelihood>& choices, const Take& take) {
  auto list = nlohmann::json::array();
  for (const auto& one : choices) list.push_back(take(one));
  return list;
}

std::string outcome_line(const ChoiceOutcome& outcome) {
  using One = const ChoiceLikelihood&;
  const auto& choices = outcome.choices;
  const nlohmann::ordered_json rest = {
      {"item", outcome.item},
      {"answer", outcome.answer},
      {"choice", best_choices(choices)[0]},
      {"logprobs", list_of(choices, [](One one) { return one.logprob; })},
      {"tokens", list_of(choices, [](One one) { return one.tokens; })},
      {"characters", list_of(choices, [](One one) { return one.characters; })},
      {"bytes", list_of(choices, [](One one) { return one.bytes; })},
      {"greedy", list_of(choices, [](One one) { return one.greedy; })}};
  return replace_invalid_utf8("{\"line\":" + std::to_string(outcome.line) +
                              (outcome.id.empty() ? "" : ",\"id\":" + outcome.id) + "," +
                              rest.dump().substr(1) + "\n");
}

// Adds up outcomes.
class Totals {
 public:
  explicit Totals(const ChoiceConfig& config) {
    summary_.calibration = Calibration(config.calibration_bins);
  }

  void add(const ChoiceOutcome& outcome, const std::vector<std::string>& texts) {
    const auto best = best_choices(outcome.choices);
    for (std::size_t rule = 0; rule < best.size(); ++rule)
      hits_[rule] += best[rule] == outcome.answer ? 1 : 0;
    greedy_ += outcome.choices[outcome.answer].greedy ? 1 : 0;
    const auto probabilities = choice_probabilities(outcome.choices);
    brier_.add(rwkvx::brier_score(probabilities, outcome.answer));
    summary_.calibration.add(probabilities[best[0]], best[0] == outcome.answer);
    chance_.add(1 / static_cast<double>(outcome.choices.size()));
    ++answers_[outcome.answer];
    ++pairs_[{outcome.answer, best[0]}];
    most_ = std::max(most_, outcome.choices.size());
    if (summary_.items++ == 0) texts_ = texts;
    same_texts_ = same_texts_ && texts == texts_;
    summary_.choices += static_cast<std::int64_t>(outcome.choices.size());
  }

  ChoiceSummary summary() const {
    auto result = summary_;
    const auto n = static_cast<double>(result.items);
    for (std::size_t rule = 0; rule < hits_.size(); ++rule)
      result.accuracy[rule] = wilson_interval(hits_[rule], result.items);
    result.exact_match = wilson_interval(greedy_, result.items);
    result.brier_score = brier_.value() / n;
    result.chance = chance_.value() / n;
    for (const auto& [answer, count] : answers_)
      result.majority = std::max(result.majority, static_cast<double>(count) / n);
    if (most_ > kMostLabels) return result;
    for (std::size_t k = 0; k < most_; ++k)
      result.labels.push_back(same_texts_ ? texts_[k] : std::to_string(k));
    result.confusion.assign(most_, std::vector<std::int64_t>(most_));
    for (const auto& [pair, count] : pairs_) result.confusion[pair.first][pair.second] = count;
    return result;
  }

 private:
  ChoiceSummary summary_;
  std::array<std::int64_t, kChoiceRules.size()> hits_{};
  std::int64_t greedy_ = 0;
  CompensatedSum brier_, chance_;
  std::map<std::size_t, std::int64_t> answers_;
  std::map<std::pair<std::size_t, std::size_t>, std::int64_t> pairs_;
  std::size_t most_ = 0;
  std::vector<std::string> texts_;
  bool same_texts_ = true;
};

ChoiceOutcome read_outcome(std::string_view text, const std::string& where) {
  const auto value = parse_foreign_json(text, where);
  if (!value.is_object()) throw DataError(where, "expected a JSON object");
  const JsonObject object(value, where);
  ChoiceOutcome outcome;
  if (value.contains("id") && !value["id"].is_null()) outcome.id = json_dump(value["id"]);
  outcome.item = object.text("item");
  const auto answer = object.integer("answer");
  const auto& logprobs = object.array("logprobs");
  for (const auto* name : {"tokens", "characters", "bytes", "greedy"})
    if (object.array(name).size() != logprobs.size())
      throw DataError(where, "field \"" + std::string(name) + "\": expected " +
                                 std::to_string(logprobs.size()) + " values, as many as logprobs");
  if (answer < 0 || static_cast<std::size_t>(answer) >= logprobs.size())
    throw DataError(
        where, "field \"answer\": expected an index of logprobs, got " + std::to_string(answer));
  outcome.answer = static_cast<std::size_t>(answer);
  for (std::size_t k = 0; k < logprobs.size(); ++k) {
    const auto length = [&](const char* name) {
      const auto& one = object.array(name)[k];
      if (!one.is_number_integer() || one.get<std::int64_t>() < 1)
        throw DataError(
            where, "field \"" + std::string(name) + "\": expected whole numbers of at least 1");
      return one.get<std::int64_t>();
    };
    if (!logprobs[k].is_number() || !std::isfinite(logprobs[k].get<double>()))
      throw DataError(where, "field \"logprobs\": expected finite numbers");
    const auto& greedy = object.array("greedy")[k];
    outcome.choices.push_back({logprobs[k].get<double>(), length("tokens"), length("characters"),
                               length("bytes"), greedy.is_boolean() && greedy.get<bool>()});
  }
  return outcome;
}

}  // namespace

void ChoiceConfig::check(const std::string& where) const {
  for (std::string_view rest = prompt_template; !rest.empty();) {
    const auto brace = rest.find_first_of("{}");
    if (brace == rest.npos) break;
    rest.remove_prefix(brace);
    if (rest.starts_with("{{") || rest.starts_with("}}")) {
      rest.remove_prefix(2);
      continue;
    }
    const auto end = rest.find_first_of("{}", 1);
    if (rest.front() == '}' || end == rest.npos || rest[end] == '{' || end == 1)
      throw ConfigError(where + "prompt_template",
                        "expected {FIELD} for each field and {{ or }} for a brace, got \"" +
                            std::string(rest.substr(0, 20)) + "\"");
    rest.remove_prefix(end + 1);
  }
  if ((few_shot > 0) != !few_shot_from.empty())
    throw ConfigError(where + (few_shot > 0 ? "few_shot" : "few_shot_from"),
                      few_shot > 0 ? "requires --few-shot-from FILE" : "requires --few-shot N");
}

std::string choice_signature(const ChoiceConfig& config) {
  return "few_shot:" + std::to_string(config.few_shot) +
         "|tokens:" + enum_name(config.continuation_tokens) +
         "|delimiter:" + json_dump(nlohmann::json(config.target_delimiter)) +
         (config.prompt_template.empty()
              ? ""
              : "|template:" + json_dump(nlohmann::json(config.prompt_template))) +
         "|interval:95,wilson|calibration:" + std::to_string(config.calibration_bins) +
         " bins of equal width";
}

ChoiceSummary eval_choices(Generator& generator, const std::filesystem::path& items,
                           const std::string& prompt_field, const ChoiceConfig& config,
                           const std::filesystem::path& details, bool quiet) {
  const InterruptGuard guard;
  const auto before = examples(config, prompt_field);
  std::int64_t total = 0;
  for (LineReader counting(items); counting.skip();) ++total;
  ItemReader reader(items, prompt_field, config);
  std::unique_ptr<AtomicFile> file;
  if (!details.empty()) file = std::make_unique<AtomicFile>(details);
  Totals totals(config);
  std::int64_t merged = 0, done_items = 0;
  std::deque<Item> open;
  Progress bar("scoring", total, quiet);
  const auto next = [&]() -> std::optional<LikelihoodRequest> {
    auto item = reader.next();
    if (!item) return std::nullopt;
    LikelihoodRequest request{before + item->prompt, {}};
    for (const auto& choice : item->choices)
      request.continuations.push_back(config.target_delimiter + choice);
    if (config.continuation_tokens == ContinuationTokens::kJoint) move_space(request);
    open.push_back(std::move(*item));
    return request;
  };
  const auto done = [&](std::int64_t, const std::vector<Likelihood>& found) {
    const auto item = std::move(open.front());
    open.pop_front();
    const std::string where = items.string() + ":" + std::to_string(item.line);
    ChoiceOutcome outcome{item.line, item.id, item.hash(), item.answer, {}};
    for (std::size_t k = 0; k < found.size(); ++k) {
      const auto& one = found[k];
      if (one.tokens == 0)
        throw DataError(where, "choice " + std::to_string(k) +
                                   " has no token of its own after the prompt; set "
                                   "--continuation-tokens apart");
      if (!std::isfinite(one.logprob))
        throw Error(where, "the log-likelihood of choice " + std::to_string(k) + " is not finite");
      merged += one.merged ? 1 : 0;
      outcome.choices.push_back({one.logprob, one.tokens, characters_of(item.choices[k]),
                                 static_cast<std::int64_t>(item.choices[k].size()), one.greedy});
    }
    totals.add(outcome, item.choices);
    if (file) file->write(outcome_line(outcome));
    bar.update(++done_items);
  };
  continuation_likelihoods(generator, config.continuation_tokens, kSlots, next, done);
  bar.finish();
  if (done_items == 0) throw DataError(items.string(), "expected at least one item, got none");
  if (file) file->commit();
  auto summary = totals.summary();
  summary.merged = merged;
  return summary;
}

bool holds_choice_outcomes(const std::filesystem::path& path) {
  LineReader reader(path);
  for (std::string text; text.clear(), reader.append(text);) {
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    const auto value = parse_json_or_null(text);
    return value.is_object() && value.contains("logprobs") && value.contains("item");
  }
  return false;
}

std::vector<ChoiceOutcome> read_choice_outcomes(const std::filesystem::path& path) {
  LineReader reader(path);
  std::vector<ChoiceOutcome> outcomes;
  for (std::string text; text.clear(), reader.append(text);) {
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    outcomes.push_back(read_outcome(text, path.string() + ":" + std::to_string(reader.lines())));
    outcomes.back().line = reader.lines();
  }
  if (outcomes.empty())
    throw DataError(path.string(), "expected one JSON object per line, got an empty file");
  return outcomes;
}

}  // namespace rwkvx

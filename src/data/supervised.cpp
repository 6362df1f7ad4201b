#include "rwkvx/data/supervised.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "data/documents.h"
#include "data/sources.h"
#include "data/value_swap.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/nearest.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/splitmix64.h"
#include "rwkvx/base/workers.h"
#include "rwkvx/data/chat_template.h"

namespace rwkvx {
namespace {

// A line of a source.
struct Line {
  Document document;
  std::string where;  // FILE:LINE
  std::uint64_t number = 0;
};

// A document's text in spans with their weights, or its ids.
struct Spans {
  struct Span {
    std::string text;
    float weight;
    bool response;
  };
  std::vector<Span> spans;
  std::vector<TokenId> ids;
  std::vector<float> weights;
};

std::vector<Line> read_lines(const std::vector<std::string>& sources, const DataConfig& config,
                             TextPart part) {
  std::vector<Line> lines;
  DocumentReader reader(sources, config);
  Document document;
  while (reader.next(document)) {
    const auto& name = sources[document.source];
    if (document.line == 0)
      throw DataError(name, "data.format = " + enum_name(config.format) +
                                " expects .jsonl files, one JSON object per line");
    lines.push_back({document, name + ":" + std::to_string(document.line), lines.size()});
  }
  if (part == TextPart::kAll) return lines;
  const auto count = static_cast<double>(lines.size());
  const auto valid = static_cast<std::ptrdiff_t>(std::llround(count * config.valid_fraction));
  const auto cut = lines.end() - valid;
  if (part == TextPart::kTrain)
    lines.erase(cut, lines.end());
  else
    lines.erase(lines.begin(), cut);
  return lines;
}

// Turns a line into documents.
class LineParser {
 public:
  // `lines`: all that there are, where values are exchanged.
  explicit LineParser(const DataConfig& config, const std::vector<Line>& lines = {})
      : config_(config), template_(config.chat_template, config.format, "data.template") {
    if (config.swap_variants == 0 || lines.empty()) return;
    swap_.emplace(config.swap_between[0], config.swap_between[1], config.swap_share);
    for (const auto& line : lines) {
      const auto json = parse_json_or_null(line.document.bytes);
      if (!json.is_object() || json.contains("ids")) continue;
      for (const auto& field : {config.prompt_field, config.response_field}) {
        if (!json.contains(field)) continue;
        const auto& value = json[field];
        for (const auto& one : value.is_array() ? value : nlohmann::json::array({value}))
          if (one.is_string()) swap_->collect(one.get<std::string>());
      }
    }
    swap_->finish();
  }

  std::vector<Spans> parse(const Line& line) const {
    const auto json = parse_foreign_json(line.document.bytes, line.where);
    if (!json.is_object())
      throw DataError(line.where, "expected a JSON object, got " + json_shown(json));
    if (json.contains("ids")) return {ready(json, line.where)};
    const float weight = weight_of(json, line.where, 1);
    if (config_.format == DataFormat::kMessages) return {conversation(json, line.where, weight)};
    const auto prompt = text(json, config_.prompt_field, line.where);
    std::vector<Spans> all;
    std::uint64_t drawn = 0;
    for (const auto& response : responses(json, line.where)) {
      all.push_back(weighted(template_.pair(prompt, response), weight));
      if (!swap_) continue;
      for (std::int64_t i = 0; i < config_.swap_variants; ++i)
        if (const auto other = swap_->swapped(prompt, response, splitmix64(line.number, ++drawn)))
          all.push_back(weighted(template_.pair(other->prompt, other->response), weight));
    }
    return all;
  }

  SupervisedPrompt prompt(const Line& line) const {
    const auto json = parse_foreign_json(line.document.bytes, line.where);
    if (config_.format == DataFormat::kPairs)
      return {template_.before_response(text(json, config_.prompt_field, line.where)),
              responses(json, line.where)};
    // All but the last response.
    const auto spans = template_.messages(read_messages(json, line.where));
    SupervisedPrompt prompt;
    for (std::size_t i = 0; i + 1 < spans.size(); ++i) prompt.prompt += spans[i].text;
    prompt.references = {spans.back().text};
    return prompt;
  }

 private:
  const nlohmann::json& member(const nlohmann::json& json, const std::string& field,
                               const std::string& where) const {
    if (json.is_object() && json.contains(field)) return json[field];
    std::vector<std::string> names;
    if (json.is_object())
      for (const auto& item : json.items()) names.push_back(item.key());
    throw DataError(where, "no field \"" + field + "\"" + did_you_mean(field, names) +
                               "; set data.prompt_field, data.response_field or "
                               "data.messages_field");
  }
  std::string text(const nlohmann::json& json, const std::string& field,
                   const std::string& where) const {
    const auto& value = member(json, field, where);
    if (!value.is_string())
      throw DataError(where,
                      "field \"" + field + "\": expected a string, got " + json_shown(value));
    return value;
  }
  std::vector<std::string> responses(const nlohmann::json& json, const std::string& where) const {
    const auto& field = config_.response_field;
    const auto& value = member(json, field, where);
    std::vector<std::string> all;
    const auto add = [&](const nlohmann::json& one, const std::string& name) {
      if (!one.is_string())
        throw DataError(where, "field \"" + name + "\": expected a string, got " + json_shown(one));
      all.push_back(one);
      if (all.back().empty())
        throw DataError(
            where, "field \"" + name + "\": the response is empty, so there is nothing to learn");
    };
    if (!value.is_array()) {
      add(value, field);
      return all;
    }
    for (std::size_t i = 0; i < value.size(); ++i)
      add(value[i], field + "[" + std::to_string(i) + "]");
    if (all.empty())
      throw DataError(where, "field \"" + field + "\": expected responses, got an empty array");
    return all;
  }
  float weight_of(const nlohmann::json& json, const std::string& where, float otherwise) const {
    if (!json.contains(config_.weight_field)) return otherwise;
    const auto& value = json[config_.weight_field];
    if (!value.is_number() || !(value.get<double>() >= 0 && value.get<double>() <= 1e6))
      throw DataError(where, "field \"" + config_.weight_field +
                                 "\": expected a number from 0 to 1e6, got " + json_shown(value));
    return value;
  }
  std::vector<ChatMessage> read_messages(const nlohmann::json& json,
                                         const std::string& where) const {
    const auto& field = config_.messages_field;
    const auto& list = member(json, field, where);
    if (!list.is_array())
      throw DataError(where, "field \"" + field + "\": expected an array, got " + json_shown(list));
    std::vector<ChatMessage> all;
    for (std::size_t i = 0; i < list.size(); ++i) {
      const auto at = where + ": " + field + "[" + std::to_string(i) + "]";
      all.push_back({text(list[i], "role", at), text(list[i], "content", at)});
      const auto& roles = ChatTemplate::roles();
      if (std::ranges::find(roles, all.back().role) == roles.end())
        throw DataError(
            at, "unknown role \"" + all.back().role + "\"; expected system, user or assistant");
      if (all.back().role == "assistant" && all.back().content.empty())
        throw DataError(at, "the response is empty, so there is nothing to learn");
    }
    if (all.empty() || all.back().role != "assistant")
      throw DataError(where, "field \"" + field + "\": the last message must be an assistant's" +
                                 (all.empty() ? ", got none"
                                              : ", got one of role \"" + all.back().role + "\""));
    return all;
  }
  Spans conversation(const nlohmann::json& json, const std::string& where, float weight) const {
    const auto messages = read_messages(json, where);
    const auto& list = json[config_.messages_field];
    auto result = weighted(template_.messages(messages), weight);
    // A message's own weight goes to its response, in order.
    std::size_t at = 0;
    for (auto& span : result.spans) {
      if (!span.response) continue;
      while (messages[at].role != "assistant") ++at;
      if (config_.loss_on == LossOn::kResponses)
        span.weight = weight_of(list[at], where, span.weight);
      while (at < messages.size() && messages[at].role == "assistant") ++at;
    }
    return result;
  }
  Spans weighted(std::vector<TextSpan> texts, float weight) const {
    Spans result;
    for (auto& one : texts) {
      const bool learned = one.response || config_.loss_on == LossOn::kAll;
      result.spans.push_back({std::move(one.text), learned ? weight : 0, one.response});
    }
    return result;
  }
  Spans ready(const nlohmann::json& json, const std::string& where) const {
    Spans result;
    const auto& ids = json["ids"];
    const auto wrong = [&](const std::string& what) { throw DataError(where, what); };
    if (!ids.is_array() || ids.size() < 2)
      wrong("field \"ids\": expected an array of two or more ids");
    for (const auto& id : ids) {
      if (!id.is_number_integer()) wrong("field \"ids\": expected ids, got " + json_shown(id));
      result.ids.push_back(id);
    }
    result.weights.assign(ids.size(), 1);
    if (!json.contains("weights")) return result;
    const auto& weights = json["weights"];
    if (!weights.is_array() || weights.size() != ids.size())
      wrong("field \"weights\": expected a number for each of the " + std::to_string(ids.size()) +
            " ids");
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (!weights[i].is_number() || !(weights[i].get<double>() >= 0))
        wrong("field \"weights\": expected numbers of 0 or more, got " + json_shown(weights[i]));
      result.weights[i] = weights[i];
    }
    return result;
  }

  const DataConfig& config_;
  ChatTemplate template_;
  std::optional<ValueSwap> swap_;
};

// A document's tokens with the weight of each, and how much of it was cut.
struct Tokenized {
  std::vector<TokenId> ids;
  std::vector<float> weights;
  bool cut = false, skipped = false;
};

void check_ids(const std::vector<TokenId>& ids, const Tokenizer& tokenizer,
               const std::string& where) {
  for (const auto id : ids)
    if (id < 0 || id >= tokenizer.vocab_size())
      throw DataError(where, "field \"ids\": id " + std::to_string(id) + " is not below " +
                                 std::to_string(tokenizer.vocab_size()));
}

Tokenized tokenize(const Spans& document, const Tokenizer& tokenizer, const DataConfig& config,
                   std::int64_t ctx_len, const std::string& where) {
  Tokenized result;
  auto& ids = result.ids;
  auto& weights = result.weights;
  std::size_t start = 0, response = 0;  // where the prompt begins, and the last response
  if (!document.ids.empty()) {
    check_ids(document.ids, tokenizer, where);
    ids = document.ids, weights = document.weights;
  } else {
    if (tokenizer.text_start() != kNoToken) {
      ids.push_back(tokenizer.text_start());
      weights.push_back(0);
      start = 1;
    }
    for (const auto& span : document.spans) {
      if (span.response) response = ids.size();
      const auto own = tokenizer.encode(span.text);
      ids.insert(ids.end(), own.begin(), own.end());
      weights.resize(ids.size(), span.weight);
    }
    if (tokenizer.document_end() != kNoToken) {
      ids.push_back(tokenizer.document_end());
      weights.push_back(document.spans.back().weight);
    }
  }
  const auto most = static_cast<std::size_t>(ctx_len) + 1;
  if (ids.size() <= most) return result;
  result.cut = config.too_long != TooLong::kSkip;
  result.skipped = !result.cut;
  if (config.too_long == TooLong::kCutPrompt && response > start) {
    const auto first = ids.begin() + static_cast<std::ptrdiff_t>(start);
    const auto away = static_cast<std::ptrdiff_t>(std::min(ids.size() - most, response - start));
    ids.erase(first, first + away);
    const auto first_weight = weights.begin() + static_cast<std::ptrdiff_t>(start);
    weights.erase(first_weight, first_weight + away);
  }
  if (ids.size() > most) ids.resize(most), weights.resize(most);
  return result;
}

void warn_of_lengths(const SupervisedSet& set, const DataConfig& config, std::int64_t ctx_len,
                     const std::string& name) {
  const auto of = [&](std::int64_t count) {
    return count_text(count) + " of " + count_text(set.size() + set.skipped) + " documents of " +
           name + " have more than ctx_len = " + std::to_string(ctx_len) + " tokens; ";
  };
  if (set.cut > 0)
    log_warning(of(set.cut) +
                (config.too_long == TooLong::kCutPrompt ? "their prompts lost their beginnings"
                                                        : "their responses lost their ends") +
                " (data.too_long = " + enum_name(config.too_long) + ")");
  if (set.skipped > 0) log_warning(of(set.skipped) + "they are left out (data.too_long = skip)");
}

TokenManifest describe(const std::vector<Line>& lines, const SupervisedSet& set,
                       const DataConfig& config, const Tokenizer& tokenizer, std::int64_t ctx_len) {
  TokenManifest manifest;
  Hasher hasher;
  auto settings = nlohmann::json(config_to_json(config));
  for (const char* name : {"train", "valid", "weights", "cache", "separator", "text_field"})
    settings.erase(name);
  if (config.swap_variants == 0)
    for (const char* name : {"swap_variants", "swap_between", "swap_share"}) settings.erase(name);
  hasher.add(settings.dump() + tokenizer.hash() + std::to_string(ctx_len));
  for (const auto& line : lines) {
    hasher.add(line.document.bytes);
    hasher.add("\n");
    manifest.bytes += static_cast<std::int64_t>(line.document.bytes.size());
  }
  manifest.hash = hasher.hex();
  manifest.tokenizer_kind = tokenizer.kind();
  manifest.tokenizer_hash = tokenizer.hash();
  manifest.vocab_size = tokenizer.vocab_size();
  manifest.documents = set.size();
  manifest.tokens = set.tokens();
  return manifest;
}

}  // namespace

void SupervisedSet::add(std::span<const TokenId> ids, std::span<const float> weights) {
  inputs_.insert(inputs_.end(), ids.begin(), ids.end() - 1);
  targets_.insert(targets_.end(), ids.begin() + 1, ids.end());
  weights_.insert(weights_.end(), weights.begin() + 1, weights.end());
  learned += std::count_if(weights.begin() + 1, weights.end(), [](float w) { return w != 0; });
  bounds_.push_back(static_cast<std::int64_t>(inputs_.size()));
  longest = std::max(longest, static_cast<std::int64_t>(ids.size()) - 1);
}

SupervisedSet read_supervised(const std::vector<std::string>& entries, const DataConfig& config,
                              const Tokenizer& tokenizer, std::int64_t ctx_len, TextPart part,
                              std::int64_t threads, bool quiet) {
  const auto sources = find_texts(entries, "data");
  const auto lines = read_lines(sources, config, part);
  const LineParser parser(config, lines);
  std::vector<std::vector<Tokenized>> done(lines.size());
  std::vector<std::string> bad(lines.size());
  constexpr std::size_t kJob = 64;  // lines
  const auto jobs = (lines.size() + kJob - 1) / kJob;
  Workers workers(thread_count(threads), [&]() -> Workers::Work {
    return [&](std::size_t job) {
      for (auto i = job * kJob; i < std::min(lines.size(), (job + 1) * kJob); ++i) try {
          for (const auto& document : parser.parse(lines[i]))
            done[i].push_back(tokenize(document, tokenizer, config, ctx_len, lines[i].where));
        } catch (const DataError& error) {
          if (!config.skip_bad_lines) throw;
          bad[i] = error.what();
        }
    };
  });
  for (std::size_t job = 0; job < jobs; ++job) workers.give(job);
  for (std::size_t job = 0; job < jobs; ++job) workers.wait(job);

  SupervisedSet set;
  std::string first_bad;
  std::int64_t bad_lines = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (!bad[i].empty() && bad_lines++ == 0) first_bad = bad[i];
    for (const auto& one : done[i]) {
      set.cut += one.cut, set.skipped += one.skipped;
      if (!one.skipped && one.ids.size() > 1) set.add(one.ids, one.weights);
    }
  }
  const auto name = sources.front() + (sources.size() > 1 ? " and more" : "");
  if (bad_lines > 0 && !quiet)
    log_warning(name + ": " + count_text(bad_lines) + " lines left out, the first: " + first_bad);
  if (!quiet) warn_of_lengths(set, config, ctx_len, name);
  if (set.size() == 0) throw DataError(name, "holds no documents to train or validate on");
  if (set.learned == 0)
    throw DataError(name, "no token has a loss; see data.loss_on and data.weight_field");
  set.manifest = describe(lines, set, config, tokenizer, ctx_len);
  set.manifest.skipped_lines = bad_lines;
  return set;
}

std::vector<std::string> supervised_texts(const std::vector<std::string>& entries,
                                          const DataConfig& config, TextPart part) {
  const auto lines = read_lines(find_texts(entries, "data"), config, part);
  const LineParser parser(config, lines);
  std::vector<std::string> texts;
  for (const auto& line : lines) try {
      for (const auto& document : parser.parse(line)) {
        auto& text = texts.emplace_back();
        for (const auto& span : document.spans) text += span.text;
      }
    } catch (const DataError&) {
      if (!config.skip_bad_lines) throw;
    }
  return texts;
}

std::vector<SupervisedPrompt> supervised_prompts(const DataConfig& config, std::int64_t count) {
  const bool split = config.valid.empty();
  const auto sources =
      split ? find_texts(config.train, "data.train") : find_texts(config.valid, "data.valid");
  const auto lines = read_lines(sources, config, split ? TextPart::kValid : TextPart::kAll);
  const LineParser parser(config);
  const auto all = static_cast<std::int64_t>(lines.size());
  std::vector<SupervisedPrompt> prompts;
  for (std::int64_t i = 0; i < std::min(count, all); ++i) try {
      prompts.push_back(
          parser.prompt(lines[static_cast<std::size_t>(i * all / std::min(count, all))]));
    } catch (const DataError&) {
      if (!config.skip_bad_lines) throw;
    }
  return prompts;
}

}  // namespace rwkvx

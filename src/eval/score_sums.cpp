#include "rwkvx/eval/score_sums.h"

#include <algorithm>
#include <charconv>

#include "rwkvx/base/log.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/utf8.h"
#include "rwkvx/base/version.h"

namespace rwkvx {
namespace {

bool all_ascii(std::string_view text) {
  unsigned char seen = 0;
  for (const char c : text) seen |= static_cast<unsigned char>(c);
  return seen < 0x80;
}

void append_number(double value, std::string& out) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  out.append(digits, end);
  // A whole number is a float all the same for those who read it.
  if (std::find_if(digits, end, [](char c) { return c == '.' || c == 'e'; }) == end) out += ".0";
}

// An id as it was written, but for bytes that may not stand in JSON.
void append_clean_json(std::string_view json, std::string& out) {
  while (!json.empty()) {
    const auto size = utf8_character(json);
    if (size == 0 || static_cast<unsigned char>(json[0]) < 0x20) {
      out += "\\ufffd";
      json.remove_prefix(1);
    } else {
      out += json.substr(0, size);
      json.remove_prefix(size);
    }
  }
}

void append_value(double value, std::string& out) { append_number(value, out); }
void append_value(std::uint64_t value, std::string& out) { out += std::to_string(value); }
void append_value(const std::vector<double>& values, std::string& out) {
  out += "[";
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) out += ", ";
    append_number(values[i], out);
  }
  out += "]";
}

// A text without a character has no tokens whatever the tokenizer.
bool is_empty(std::string_view text) { return text.find_first_not_of(" \t\r\n") == text.npos; }

std::string range_text(std::uint64_t from, std::uint64_t to) {
  return from == to ? std::to_string(from) : std::to_string(from) + "-" + std::to_string(to);
}

}  // namespace

PairScorer::PairScorer(const MetricSet& metrics) : statistics_(metric_statistics(metrics)) {
  for (const auto& metric : metrics) counters_.push_back({metric->counter(), metric->statistics()});
}

void PairScorer::score(const TextPair& pair, SampleScores& scores) {
  scores.references = pair.references.size();
  scores.texts = 1 + pair.references.size();
  scores.empty = scores.without_tokens = 0;
  scores.statistics.resize(statistics_);
  std::span<double> statistics = scores.statistics;
  for (const auto& [counter, count] : counters_) {
    counter->count(pair.prediction, pair.references, statistics.first(count));
    statistics = statistics.subspan(count);
    scores.without_tokens = std::max(scores.without_tokens, counter->texts_without_tokens());
  }
  if (scores.without_tokens > 0) {
    scores.empty = is_empty(pair.prediction);
    for (const auto reference : pair.references) scores.empty += is_empty(reference);
    scores.empty = std::min(scores.empty, scores.without_tokens);
    scores.without_tokens -= scores.empty;
  }
  scores.invalid_utf8 = scores.with_nul = 0;
  const auto look = [&](std::string_view text) {
    if (!all_ascii(text))
      scores.invalid_utf8 += static_cast<std::uint64_t>(count_invalid_utf8(text));
    scores.with_nul += text.find('\0') != text.npos;
  };
  look(pair.prediction);
  for (const auto reference : pair.references) look(reference);
}

void append_sample_json(const MetricSet& metrics, const TextPair& pair, const SampleScores& scores,
                        std::string& out) {
  out += "{\"line\": " + std::to_string(pair.line);
  if (!pair.id.empty()) {
    out += ", \"id\": ";
    append_clean_json(pair.id, out);
  }
  out += ", \"scores\": {";
  const auto values = sample_scores(metrics, scores.statistics);
  auto score = values.begin();
  for (const auto& metric : metrics)
    for (const auto& column : metric->columns()) {
      out += (score == values.begin() ? "\"" : ", \"") + column.name + "\": ";
      const char* before = "{\"";
      for (const auto& [name, value] : score->parts) {
        out += before + name + "\": ";
        std::visit([&](const auto& number) { append_value(number, out); }, value);
        before = ", \"";
      }
      out += "}";
      ++score;
    }
  out += "}}\n";
}

void ScoreSums::add(const SampleScores& sample) {
  for (std::size_t i = 0; i < sums_.size(); ++i) sums_[i].add(sample.statistics[i]);
  fewest_references_ =
      n_ == 0 ? sample.references : std::min(fewest_references_, sample.references);
  most_references_ = std::max(most_references_, sample.references);
  ++n_;
  texts_ += sample.texts;
  empty_ += sample.empty;
  without_tokens_ += sample.without_tokens;
  invalid_utf8_ += sample.invalid_utf8;
  samples_invalid_ += sample.invalid_utf8 > 0;
  texts_nul_ += sample.with_nul;
}

std::string ScoreSums::signature() const {
  std::string names, parts;
  for (const auto& metric : metrics_) {
    for (const auto& column : metric->columns()) names += (names.empty() ? "" : ",") + column.name;
    parts += "|" + metric->signature();
  }
  return "metrics:" + names + "|nrefs:" + range_text(fewest_references_, most_references_) + parts +
         "|version:rwkvx-" + version();
}

ScoreSummary ScoreSums::summary() const {
  std::vector<double> sums;
  for (const auto& sum : sums_) sums.push_back(sum.value());
  ScoreSummary summary;
  summary.n = n_;
  summary.scores = set_scores(metrics_, sums, std::max<std::uint64_t>(n_, 1));
  summary.signature = signature();
  return summary;
}

void ScoreSums::warn() const {
  const auto count = [](std::uint64_t value) {
    return count_text(static_cast<std::int64_t>(value));
  };
  if (empty_ > 0)
    log_warning(count(empty_) + " of " + count(texts_) + " texts are empty and score 0");
  if (without_tokens_ > 0) {
    std::string advice;
    for (const auto& metric : metrics_)
      if (advice.empty() && !metric->advice().empty()) advice = ": " + metric->advice();
    log_warning(count(without_tokens_) + " of " + count(texts_) +
                " texts have no tokens and score 0" + advice);
  }
  if (invalid_utf8_ > 0)
    log_warning(count(invalid_utf8_) + " invalid UTF-8 sequences in " + count(samples_invalid_) +
                " of " + count(n_) + " pairs, kept as bytes");
  if (texts_nul_ > 0)
    log_warning(count(texts_nul_) + " of " + count(texts_) + " texts contain NUL bytes");
}

}  // namespace rwkvx

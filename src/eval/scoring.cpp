#include "rwkvx/eval/scoring.h"

#include <algorithm>
#include <charconv>
#include <exception>
#include <memory>
#include <optional>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/nearest.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/utf8.h"
#include "rwkvx/base/version.h"
#include "rwkvx/base/workers.h"
#include "rwkvx/metrics/unicode.h"

namespace rwkvx {
namespace {

// A batch's text is given back to the system when it is larger than this.
constexpr std::size_t kKeptBytes = std::size_t{1} << 23;

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

// One batch on its way through the threads.
struct Slot {
  PairBatch batch;
  std::vector<SampleScores> scores;  // of the first `scored`; kept for their memory
  std::size_t scored = 0;
  std::string lines;  // for the per-sample file
  std::uint64_t bad = 0;
  std::string first_bad;
  std::exception_ptr error;  // what ended the batch, after its scored samples
};

class BatchScorer {
 public:
  BatchScorer(const PairSource& source, const MetricSet& metrics, const ScoringOptions& options)
      : source_(source), metrics_(metrics), options_(options), scorer_(metrics) {}

  void score(Slot& slot) {
    slot.scored = 0;
    slot.lines.clear();
    slot.bad = 0;
    slot.error = nullptr;
    if (slot.scores.size() < slot.batch.items.size()) slot.scores.resize(slot.batch.items.size());
    try {
      for (const auto& item : slot.batch.items) {
        if (!parse(slot, item)) continue;
        auto& scores = slot.scores[slot.scored];
        scorer_.score(pair_, scores);
        if (options_.each) describe(scores);
        if (!options_.per_sample.empty()) append_sample_json(metrics_, pair_, scores, slot.lines);
        ++slot.scored;
      }
    } catch (...) {
      slot.error = std::current_exception();
    }
    if (scratch_.room.capacity() > kKeptBytes) std::string().swap(scratch_.room);
  }

 private:
  bool parse(Slot& slot, const PairBatch::Item& item) {
    if (!options_.skip_bad) {
      source_.parse(slot.batch, item, scratch_, pair_);
      return true;
    }
    try {
      source_.parse(slot.batch, item, scratch_, pair_);
      return true;
    } catch (const DataError& error) {
      if (slot.bad++ == 0) slot.first_bad = error.what();
      return false;
    }
  }
  void describe(SampleScores& scores) {
    scores.line = pair_.line;
    scores.id = pair_.id;
    scores.reference_words = words(pair_.references.front());
    scores.prompt_words = words(pair_.prompt);
    scores.references_hash = 0xcbf29ce484222325U;
    const auto add = [&](std::uint64_t value) {
      scores.references_hash = (scores.references_hash ^ value) * 0x100000001b3U;
    };
    for (const auto reference : pair_.references) {
      add(256);
      for (const char c : reference) add(static_cast<unsigned char>(c));
    }
  }
  std::uint64_t words(std::string_view text) {
    std::uint64_t count = 0;
    decode_utf8(text, codes_);
    unicode::for_each_word(codes_, [&](std::span<const std::uint32_t>) { ++count; });
    return count;
  }
  const PairSource& source_;
  const MetricSet& metrics_;
  const ScoringOptions& options_;
  std::vector<std::uint32_t> codes_;
  PairScorer scorer_;
  PairSource::Scratch scratch_;
  TextPair pair_;
};

std::string unknown_metric(std::string_view name) {
  // As the valid names are written, so that ROUGE-l is nearest to rougeL and not to rouge1.
  std::string likely(name);
  for (char& c : likely) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (c == 'l') c = 'L';
  }
  auto valid = rouge_names();
  valid.insert(valid.end(), {"bLeu", "chrf", "chrf++"});
  auto meant = nearest(likely, valid);
  if (meant == "bLeu") meant = "bleu";
  return "unknown metric \"" + std::string(name) +
         "\", wanted rouge1, rouge2, …, rougeL, rougeLsum, rougeW, rougeS, rougeSU, rougeSU4, "
         "bleu, chrf or chrf++" +
         (meant.empty() ? "" : "; did you mean \"" + meant + "\"?");
}

double sentence_bleu(const BleuCounts& counts) {
  return bleu_score(counts, BleuSmoothing::kExp, std::nullopt, /*effective_order=*/true).score;
}

std::string range_text(std::uint64_t from, std::uint64_t to) {
  return from == to ? std::to_string(from) : std::to_string(from) + "-" + std::to_string(to);
}

}  // namespace

MetricSet parse_metrics(std::string_view names, bool stemmer, const std::string& where) {
  MetricSet metrics;
  metrics.stemmer = stemmer;
  for (std::size_t begin = 0; begin <= names.size();) {
    const auto end = std::min(names.find(',', begin), names.size());
    auto name = names.substr(begin, end - begin);
    begin = end + 1;
    while (name.starts_with(' ')) name.remove_prefix(1);
    while (name.ends_with(' ')) name.remove_suffix(1);
    bool* const other = name == "bleu"     ? &metrics.bleu
                        : name == "chrf"   ? &metrics.chrf
                        : name == "chrf++" ? &metrics.chrf_words
                                           : nullptr;
    if (other != nullptr) {
      *other = true;
      continue;
    }
    const auto type = rouge_type(name);
    if (!type) throw ConfigError(where, unknown_metric(name));
    if (std::find(metrics.rouge.begin(), metrics.rouge.end(), *type) == metrics.rouge.end())
      metrics.rouge.push_back(*type);
  }
  return metrics;
}

void PairScorer::score(const TextPair& pair, SampleScores& scores) {
  scores.references = pair.references.size();
  scores.texts = 1 + pair.references.size();
  scores.empty = scores.without_tokens = 0;
  if (!metrics_.rouge.empty()) {
    scores.rouge.resize(metrics_.rouge.size());
    rouge_.score(pair.prediction, pair.references, scores.rouge);
    scores.without_tokens = (rouge_.prediction_tokens() == 0) + rouge_.references_without_tokens();
    // A text without a character has no tokens whatever the tokenizer.
    const auto is_empty = [](std::string_view text) {
      return text.find_first_not_of(" \t\r\n") == text.npos;
    };
    if (scores.without_tokens > 0) {
      scores.empty = is_empty(pair.prediction);
      for (const auto reference : pair.references) scores.empty += is_empty(reference);
      scores.empty = std::min(scores.empty, scores.without_tokens);
      scores.without_tokens -= scores.empty;
    }
  }
  if (metrics_.bleu) scores.bleu = bleu_.count(pair.prediction, pair.references);
  if (metrics_.chrf) scores.chrf = chrf_.count(pair.prediction, pair.references);
  if (metrics_.chrf_words) scores.chrf_words = chrf_words_.count(pair.prediction, pair.references);
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
  bool first = true;
  const auto begin = [&](const std::string& name, const char* part) {
    out += std::string(first ? "" : ", ") + "\"" + name + "\": {\"" + part + "\": ";
    first = false;
  };
  for (std::size_t i = 0; i < metrics.rouge.size(); ++i) {
    begin(rouge_name(metrics.rouge[i]), "precision");
    append_number(scores.rouge[i].precision, out);
    out += ", \"recall\": ";
    append_number(scores.rouge[i].recall, out);
    out += ", \"f1\": ";
    append_number(scores.rouge[i].f1, out);
    out += "}";
  }
  const auto append_score = [&](const std::string& name, double score) {
    begin(name, "score");
    append_number(score, out);
    out += "}";
  };
  if (metrics.bleu) append_score("bleu", sentence_bleu(scores.bleu));
  if (metrics.chrf) append_score("chrf", chrf_score(scores.chrf));
  if (metrics.chrf_words) append_score("chrf++", chrf_score(scores.chrf_words));
  out += "}}\n";
}

std::vector<std::string> metric_names(const MetricSet& metrics) {
  std::vector<std::string> names;
  for (const auto& type : metrics.rouge) names.push_back(rouge_name(type));
  if (metrics.bleu) names.emplace_back("bleu");
  if (metrics.chrf) names.emplace_back("chrf");
  if (metrics.chrf_words) names.emplace_back("chrf++");
  return names;
}

std::vector<double> sample_values(const MetricSet& metrics, const SampleScores& scores) {
  std::vector<double> values;
  for (std::size_t i = 0; i < metrics.rouge.size(); ++i) values.push_back(scores.rouge[i].f1);
  if (metrics.bleu) values.push_back(sentence_bleu(scores.bleu));
  if (metrics.chrf) values.push_back(chrf_score(scores.chrf));
  if (metrics.chrf_words) values.push_back(chrf_score(scores.chrf_words));
  return values;
}

ScoreSums::ScoreSums(const MetricSet& metrics) : metrics_(metrics), rouge_(metrics.rouge.size()) {}

void ScoreSums::add(const SampleScores& sample) {
  for (std::size_t i = 0; i < rouge_.size(); ++i) {
    rouge_[i].precision.add(sample.rouge[i].precision);
    rouge_[i].recall.add(sample.rouge[i].recall);
    rouge_[i].f1.add(sample.rouge[i].f1);
  }
  bleu_ += sample.bleu;
  chrf_ += sample.chrf;
  chrf_words_ += sample.chrf_words;
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
  bool sum = false;
  const auto add_name = [&](const std::string& name) {
    names += (names.empty() ? "" : ",") + name;
  };
  for (const auto& type : metrics_.rouge) {
    add_name(rouge_name(type));
    sum = sum || type.kind == RougeType::Kind::kLcsSum;
  }
  if (!metrics_.rouge.empty())
    parts += "|rouge:tok:" + rouge_tokenization_name(metrics_.tokens.kind) +
             (metrics_.given_name.empty() ? "" : "-" + metrics_.given_name) +
             (metrics_.tokens.kind == RougeTokenization::kGiven ? ",case:mixed" : ",case:lc") +
             ",stem:" + (metrics_.stemmer ? "porter-nltk" : "no") +
             ",refs:" + (metrics_.several == RougeReferences::kBest ? "best-f1" : "jackknife") +
             ",beta:1,agg:mean" + (sum ? ",lsum:newline" : "");
  if (metrics_.bleu) {
    add_name("bleu");
    parts += "|bleu:tok:" + bleu_tokenizer_name(metrics_.bleu_tokenizer) +
             ",case:mixed,smooth:exp,eff:no";
  }
  if (metrics_.chrf) {
    add_name("chrf");
    parts += "|chrf:nc:6,nw:0,beta:2,case:mixed,space:no";
  }
  if (metrics_.chrf_words) {
    add_name("chrf++");
    parts += "|chrf++:nc:6,nw:2,beta:2,case:mixed,space:no";
  }
  return "metrics:" + names + "|nrefs:" + range_text(fewest_references_, most_references_) + parts +
         "|version:rwkvx-" + version();
}

ScoreSummary ScoreSums::summary() const {
  ScoreSummary summary;
  summary.n = n_;
  const auto count = static_cast<double>(std::max<std::uint64_t>(n_, 1));
  for (const auto& sums : rouge_)
    summary.rouge.push_back(
        {sums.precision.value() / count, sums.recall.value() / count, sums.f1.value() / count});
  if (metrics_.bleu) summary.bleu = bleu_score(bleu_);
  if (metrics_.chrf) summary.chrf = chrf_score(chrf_);
  if (metrics_.chrf_words) summary.chrf_words = chrf_score(chrf_words_);
  summary.bleu_counts = bleu_;
  summary.signature = signature();
  return summary;
}

void ScoreSums::warn() const {
  const auto count = [](std::uint64_t value) {
    return count_text(static_cast<std::int64_t>(value));
  };
  if (empty_ > 0)
    log_warning(count(empty_) + " of " + count(texts_) + " texts are empty and score 0");
  if (without_tokens_ > 0)
    log_warning(count(without_tokens_) + " of " + count(texts_) +
                " texts have no tokens and score 0" +
                (metrics_.tokens.kind == RougeTokenization::kGoogle
                     ? ": the google tokenizer knows only a-z and 0-9; --tokenizer unicode knows "
                       "every script"
                     : ""));
  if (invalid_utf8_ > 0)
    log_warning(count(invalid_utf8_) + " invalid UTF-8 sequences in " + count(samples_invalid_) +
                " of " + count(n_) + " pairs, kept as bytes");
  if (texts_nul_ > 0)
    log_warning(count(texts_nul_) + " of " + count(texts_) + " texts hold NUL bytes");
}

ScoreSummary score_pairs(PairSource& source, const MetricSet& metrics,
                         const ScoringOptions& options) {
  std::optional<AtomicFile> per_sample;
  if (!options.per_sample.empty()) per_sample.emplace(options.per_sample);
  const auto threads = thread_count(options.threads);
  Progress progress("scoring", static_cast<std::int64_t>(source.size()), options.quiet);
  ScoreSums sums(metrics);
  std::uint64_t bad = 0;
  std::string first_bad;

  // This thread reads ahead and adds up in order; the number of slots bounds the memory.
  std::vector<Slot> slots(threads == 1 ? 1 : 3 * static_cast<std::size_t>(threads));
  Workers workers(threads, [&]() -> Workers::Work {
    const auto scorer = std::make_shared<BatchScorer>(source, metrics, options);
    return [&slots, scorer](std::size_t slot) { scorer->score(slots[slot]); };
  });
  std::exception_ptr read_error;
  bool ended = false;
  std::size_t given = 0, taken = 0;
  for (;;) {
    while (!ended && given - taken < slots.size()) {
      auto& slot = slots[given % slots.size()];
      try {
        ended = !source.next(slot.batch);
      } catch (...) {  // told after the errors of earlier lines
        read_error = std::current_exception();
        ended = true;
      }
      if (ended) break;
      workers.give(given++ % slots.size());
    }
    if (taken == given) break;
    auto& slot = slots[taken % slots.size()];
    workers.wait(taken++ % slots.size());
    for (std::size_t i = 0; i < slot.scored; ++i) {
      sums.add(slot.scores[i]);
      if (options.each) options.each(slot.scores[i]);
    }
    if (bad == 0 && slot.bad > 0) first_bad = slot.first_bad;
    bad += slot.bad;
    if (slot.error) std::rethrow_exception(slot.error);
    if (per_sample) per_sample->write(slot.lines);
    if (slot.batch.bytes.capacity() > kKeptBytes) std::string().swap(slot.batch.bytes);
    progress.update(static_cast<std::int64_t>(source.bytes_read()));
  }
  progress.finish();
  if (read_error) std::rethrow_exception(read_error);
  auto summary = sums.summary();
  if (summary.n == 0)
    throw DataError(source.name(), "no pair is left to score; of " + std::to_string(bad) +
                                       " bad lines the first: " + first_bad);
  summary.skipped = bad;
  if (bad > 0)
    log_warning(count_text(static_cast<std::int64_t>(bad)) +
                (bad == 1 ? " bad line was" : " bad lines were") +
                " skipped, the first: " + first_bad);
  sums.warn();
  if (per_sample) per_sample->commit();
  return summary;
}

Diversity prediction_diversity(PairSource& source, const MetricSet& metrics, bool skip_bad) {
  auto tokens = metrics.tokens;
  tokens.stemmer = metrics.stemmer;
  DiversityCounter counter(tokens);
  PairBatch batch;
  PairSource::Scratch scratch;
  TextPair pair;
  while (source.next(batch))
    for (const auto& item : batch.items) {
      try {
        source.parse(batch, item, scratch, pair);
      } catch (const DataError&) {
        if (!skip_bad) throw;
        continue;
      }
      counter.add(pair.prediction);
    }
  return counter.result();
}

}  // namespace rwkvx

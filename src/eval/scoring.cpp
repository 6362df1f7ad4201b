#include "rwkvx/eval/scoring.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <optional>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/utf8.h"
#include "rwkvx/base/workers.h"
#include "rwkvx/metrics/unicode.h"

namespace rwkvx {
namespace {

// A batch's text is given back to the system when it is larger than this.
constexpr std::size_t kKeptBytes = std::size_t{1} << 23;

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

}  // namespace

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
    throw DataError(source.name(), "expected at least one valid pair, got none; the first of " +
                                       std::to_string(bad) + " bad lines: " + first_bad);
  summary.skipped = bad;
  if (bad > 0)
    log_warning(count_text(static_cast<std::int64_t>(bad)) +
                (bad == 1 ? " bad line was" : " bad lines were") +
                " skipped, the first: " + first_bad);
  sums.warn();
  if (per_sample) per_sample->commit();
  return summary;
}

Diversity prediction_diversity(PairSource& source, const RougeTokens& tokens, bool skip_bad) {
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

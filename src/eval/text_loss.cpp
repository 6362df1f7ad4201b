#include "rwkvx/eval/text_loss.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/statistics.h"
#include "rwkvx/data/corpus.h"
#include "rwkvx/data/token_file.h"
#include "rwkvx/generate/likelihood.h"
#include "rwkvx/report/html.h"
#include "rwkvx/report/plot.h"
#include "rwkvx/report/table.h"

namespace rwkvx {
namespace {

// Counts words over pieces of text, which may be cut within a word.
class WordCounter {
 public:
  void add(std::string_view piece) {
    for (const char c : piece) {
      const bool space = c == ' ' || (c >= '\t' && c <= '\r');
      words_ += !space && !inside_;
      inside_ = !space;
    }
  }
  void end_document() { inside_ = false; }
  std::int64_t words() const { return words_; }

 private:
  std::int64_t words_ = 0;
  bool inside_ = false;
};

void add(double loss, PositionLoss& sums) {
  ++sums.tokens;
  sums.nats += loss;
  sums.squares += loss * loss;
}

void add_at(std::int64_t position, double loss, std::vector<PositionLoss>& buckets) {
  const auto bucket =
      static_cast<std::size_t>(std::bit_width(static_cast<std::uint64_t>(position)));
  while (buckets.size() <= bucket) {
    auto& added = buckets.emplace_back();
    if (buckets.size() == 1) continue;
    added.from = std::int64_t{1} << (buckets.size() - 2);
    added.to = 2 * added.from - 1;
  }
  add(loss, buckets[bucket]);
}

}  // namespace

double PositionLoss::standard_error() const { return rwkvx::standard_error(tokens, nats, squares); }
double TextLoss::perplexity() const { return std::exp(loss()); }
double TextLoss::bits_per_byte() const {
  return nats / (std::numbers::ln2 * static_cast<double>(bytes));
}
double TextLoss::bits_per_word() const {
  return nats / (std::numbers::ln2 * static_cast<double>(words));
}

TextLoss text_loss(Generator& generator, const std::filesystem::path& text, const DataConfig& data,
                   std::int64_t threads, bool quiet, std::int64_t trained_length) {
  const InterruptGuard guard;
  const TemporaryFolder folder;
  const auto prefix = folder.path() / "text";
  const auto manifest =
      // Quiet: a closed standard error would end this as it ends the building of data.
      build_tokens({text.string()}, data, generator.tokenizer(), prefix, threads, /*quiet=*/true);
  const TokenFile tokens(prefix);
  TextLoss result;
  result.documents = tokens.documents();
  result.bytes = manifest.bytes;
  const auto known = trained_length > 0 ? trained_length : std::numeric_limits<std::int64_t>::max();
  result.trained.to = known - 1;
  result.beyond = {.from = known, .to = std::numeric_limits<std::int64_t>::max()};
  WordCounter words;
  Progress bar("scoring", tokens.size(), quiet);
  for (std::int64_t i = 0; i < tokens.documents() && !interrupted(); ++i) {
    const auto bounds = tokens.document(i);
    std::int64_t at = bounds.begin, position = 0;
    words.end_document();
    const std::int64_t end = bounds.end - 1;  // without the end of the document
    generator.losses(
        [&](std::int64_t count) {
          const auto ids = tokens.read(at, std::min(count, end - at));
          at += static_cast<std::int64_t>(ids.size());
          for (const auto id : ids) words.add(generator.tokenizer().piece(id));
          return ids;
        },
        [&](const std::vector<double>& losses) {
          for (const double loss : losses) {
            result.nats += loss;
            add(loss, position < known ? result.trained : result.beyond);
            add_at(position++, loss, result.by_position);
          }
          result.tokens += static_cast<std::int64_t>(losses.size());
          bar.update(result.tokens);
        });
  }
  bar.finish();
  result.words = words.words();
  if (interrupted()) throw Interrupted("eval", "interrupted before the end of the text");
  if (!std::isfinite(result.nats))
    throw Error(text.string(), "the model's loss on this text is not finite");
  return result;
}

double WindowLoss::bits_per_byte() const {
  return nats / (std::numbers::ln2 * static_cast<double>(bytes));
}

WindowLoss window_loss(Generator& generator, const std::filesystem::path& text,
                       const DataConfig& data, std::int64_t length, std::int64_t stride,
                       std::int64_t threads, bool quiet) {
  const InterruptGuard guard;
  const TemporaryFolder folder;
  const auto prefix = folder.path() / "text";
  build_tokens({text.string()}, data, generator.tokenizer(), prefix, threads, /*quiet=*/true);
  const TokenFile tokens(prefix);
  WindowLoss result;
  result.documents = tokens.documents();
  CompensatedSum nats, weighted;
  std::int64_t weights = 0, passed = 0;
  Progress bar("scoring", tokens.size(), quiet);
  for (std::int64_t i = 0; i < tokens.documents(); ++i) {
    const auto bounds = tokens.document(i);
    const auto size = bounds.end - 1 - bounds.begin;  // without the end of the document
    std::int64_t seen = 0;
    for (std::int64_t begin = 0; begin < size && seen < size; begin += stride) {
      const auto end = std::min(begin + length, size);
      const auto ids = tokens.read(bounds.begin + begin, end - begin);
      const auto losses = token_losses(generator, ids);
      const auto fresh = end - seen;
      const auto scored = std::min<std::int64_t>(fresh, static_cast<std::int64_t>(losses.size()));
      double sum = 0;
      for (std::size_t k = losses.size() - static_cast<std::size_t>(scored); k < losses.size();
           ++k) {
        sum += losses[k];
        result.bytes += static_cast<std::int64_t>(generator.tokenizer().piece(ids[k + 1]).size());
      }
      nats.add(sum);
      result.tokens += scored;
      if (scored > 0)
        weighted.add(sum / static_cast<double>(scored) * static_cast<double>(fresh - 1));
      weights += fresh - 1;
      ++result.windows;
      seen = end;
      bar.update(passed + seen);
    }
    passed += bounds.end - bounds.begin;
  }
  bar.finish();
  if (result.tokens == 0)
    throw DataError(text.string(), "expected a document of two or more tokens, got none");
  result.nats = nats.value();
  result.loss_by_windows =
      weights > 0 ? weighted.value() / static_cast<double>(weights) : result.loss();
  if (!std::isfinite(result.nats))
    throw Error(text.string(), "the model's loss on this text is not finite");
  return result;
}

std::string text_loss_page(const TextLoss& loss, std::string_view signature) {
  const auto row = [](const std::string& name, const std::string& value) {
    return std::vector<std::string>{name, value};
  };
  std::string body = "<p><code>" + escape_html(signature) + "</code></p>\n";
  body += html_section(
      "Loss",
      html_table({"", "value"}, {row("tokens", count_text(loss.tokens)),
                                 row("documents", count_text(loss.documents)),
                                 row("nats per token", fixed_text(loss.loss(), 4)),
                                 row("perplexity", fixed_text(loss.perplexity(), 3)),
                                 row("bits per byte", fixed_text(loss.bits_per_byte(), 4)),
                                 row("bits per word", fixed_text(loss.bits_per_word(), 3))}));
  PlotLine line;
  line.name = "loss and 1.96 standard errors";
  std::vector<std::vector<std::string>> rows;
  for (const auto& bucket : loss.by_position) {
    const double error = 1.96 * bucket.standard_error();
    line.points.push_back({static_cast<double>(std::max<std::int64_t>(bucket.from, 1)),
                           bucket.loss(), bucket.loss() - error, bucket.loss() + error});
    rows.push_back({std::to_string(bucket.from) + "–" + std::to_string(bucket.to),
                    count_text(bucket.tokens), fixed_text(bucket.loss(), 4), fixed_text(error, 4)});
  }
  if (line.points.size() > 1 && loss.by_position[0].to == 0) line.points.erase(line.points.begin());
  body += html_section(
      "Loss by position",
      svg_lines({"Loss by position", "tokens before (from)", "nats per token", true}, {line}) +
          html_table({"tokens before", "tokens", "nats per token", "± 95 %"}, rows));
  return html_page("Loss on a text", body);
}

}  // namespace rwkvx

#include "rwkvx/eval/text_loss.h"

#include <cmath>
#include <numbers>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/data/corpus.h"
#include "rwkvx/data/token_file.h"

namespace rwkvx {
double TextLoss::perplexity() const { return std::exp(loss()); }
double TextLoss::bits_per_byte() const {
  return nats / (std::numbers::ln2 * static_cast<double>(bytes));
}

TextLoss text_loss(Generator& generator, const std::filesystem::path& text, const DataConfig& data,
                   std::int64_t threads, bool quiet) {
  const TemporaryFolder folder;
  const auto prefix = folder.path() / "text";
  const auto manifest =
      build_tokens({text.string()}, data, generator.tokenizer(), prefix, threads, quiet);
  const TokenFile tokens(prefix);
  TextLoss result;
  result.documents = tokens.documents();
  result.bytes = manifest.bytes;
  Progress bar("scoring", tokens.size(), quiet);
  const InterruptGuard guard;
  for (std::int64_t i = 0; i < tokens.documents() && !interrupted(); ++i) {
    const auto bounds = tokens.document(i);
    std::int64_t at = bounds.begin;
    const std::int64_t end = bounds.end - 1;  // without the end of the document
    generator.losses(
        [&](std::int64_t count) {
          const auto ids = tokens.read(at, std::min(count, end - at));
          at += static_cast<std::int64_t>(ids.size());
          return ids;
        },
        [&](const std::vector<double>& losses) {
          for (const double loss : losses) result.nats += loss;
          result.tokens += static_cast<std::int64_t>(losses.size());
          bar.update(result.tokens);
        });
  }
  bar.finish();
  if (interrupted()) throw Error("eval", "interrupted before the end of the text");
  if (!std::isfinite(result.nats))
    throw Error(text.string(), "the model's loss on it is not finite");
  return result;
}

}  // namespace rwkvx

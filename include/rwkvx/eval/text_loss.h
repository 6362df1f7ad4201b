// How well a model predicts a text: loss, perplexity, bits per byte.
#pragma once

#include <cstdint>
#include <filesystem>

#include "rwkvx/config/train_config.h"
#include "rwkvx/generate/generator.h"

namespace rwkvx {

// Sums over all tokens of a text. Ends of documents are context, not scored.
struct TextLoss {
  std::int64_t documents = 0, tokens = 0, bytes = 0;
  double nats = 0;
  double loss() const { return nats / static_cast<double>(tokens); }  // nats per token
  double perplexity() const;                                          // per token
  double bits_per_byte() const;
};

// Scores a .txt or .jsonl file, read as training text is (separator and text field of `data`): each
// document from an empty state, which is carried to its end, whatever its length. Throws DataError
// for an empty text, FileError where it cannot be read.
TextLoss text_loss(Generator& generator, const std::filesystem::path& text, const DataConfig& data,
                   std::int64_t threads = 0, bool quiet = false);

}  // namespace rwkvx

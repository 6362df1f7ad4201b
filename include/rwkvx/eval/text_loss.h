// How well a model predicts a text: loss, perplexity, bits per byte and per word, by position.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/config/train_config.h"
#include "rwkvx/generate/generator.h"

namespace rwkvx {

// Sums over the tokens that have `from` to `to` tokens of their document before them.
struct PositionLoss {
  std::int64_t from = 0, to = 0, tokens = 0;
  double nats = 0, squares = 0;
  double loss() const { return nats / static_cast<double>(tokens); }  // nats per token
  double standard_error() const;  // of the loss, as if tokens were independent; 0 for one token
};

// Sums over all tokens of a text. Ends of documents are context, not scored.
struct TextLoss {
  std::int64_t documents = 0, tokens = 0, bytes = 0;
  std::int64_t words = 0;  // runs of bytes without white space, as wc -w counts them
  double nats = 0;
  std::vector<PositionLoss> by_position;  // 0, 1, 2 to 3, 4 to 7 … tokens before; none is empty
  PositionLoss trained, beyond;           // up to the length that was trained on, and from there on
  double loss() const { return nats / static_cast<double>(tokens); }  // nats per token
  double perplexity() const;                                          // per token
  double bits_per_byte() const;
  double bits_per_word() const;
};

// Scores a .txt or .jsonl file, read as training text is (separator and text field of `data`): each
// document from an empty state, which is carried to its end, whatever its length. Throws DataError
// for an empty text, FileError where it cannot be read. `trained_length` separates
// tokens at positions that training has seen from those beyond; 0: unknown, all count as trained.
TextLoss text_loss(Generator& generator, const std::filesystem::path& text, const DataConfig& data,
                   std::int64_t threads = 0, bool quiet = false, std::int64_t trained_length = 0);

// The loss by another rule, that of models whose context is bounded: windows of `length` tokens,
// each `stride` tokens after the one before, each begun empty, of whose tokens those are scored
// that no window before it had. The first token of a document, which has no context, is not scored,
// nor is that of a window where windows do not overlap.
struct WindowLoss {
  std::int64_t documents = 0, windows = 0, tokens = 0, bytes = 0;  // tokens and bytes scored
  double nats = 0;
  // Mean of the windows' means, each weighted by its new tokens less one, as transformers' page
  // "Perplexity of fixed-length models" adds them up.
  double loss_by_windows = 0;
  double loss() const { return nats / static_cast<double>(tokens); }
  double bits_per_byte() const;
};
// Throws as text_loss() does. length is at least 2, stride from 1 to length.
WindowLoss window_loss(Generator& generator, const std::filesystem::path& text,
                       const DataConfig& data, std::int64_t length, std::int64_t stride,
                       std::int64_t threads = 0, bool quiet = false);

// One self-contained HTML page: the figures, and the loss by position as a curve and a table.
std::string text_loss_page(const TextLoss& loss, std::string_view signature);

}  // namespace rwkvx

// Prompts with responses and conversations as documents of tokens, each with the weight of its
// loss.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "rwkvx/config/train_config.h"
#include "rwkvx/data/corpus.h"
#include "rwkvx/data/manifest.h"
#include "rwkvx/text/tokenizer.h"

namespace rwkvx {

// Documents in memory. One of n tokens has n - 1 places to train on: each token but the last is an
// input, each but the first a target.
class SupervisedSet {
 public:
  std::int64_t size() const { return static_cast<std::int64_t>(bounds_.size()) - 1; }
  std::int64_t tokens() const { return bounds_.back(); }  // inputs of all documents
  std::int64_t length(std::int64_t document) const {
    return bounds_[at(document + 1)] - bounds_[at(document)];
  }
  // length(document) numbers each.
  std::span<const TokenId> inputs(std::int64_t document) const { return of(inputs_, document); }
  std::span<const TokenId> targets(std::int64_t document) const { return of(targets_, document); }
  std::span<const float> weights(std::int64_t document) const { return of(weights_, document); }
  // ids (n), and the weight of each as a target; the first one's is not read.
  void add(std::span<const TokenId> ids, std::span<const float> weights);

  TokenManifest manifest;
  // Of the lines: how many documents lost some of their prompt or response, or were left out.
  std::int64_t cut = 0, skipped = 0, longest = 0;
  std::int64_t learned = 0;  // targets whose weight is not 0

 private:
  static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }
  template <class T>
  std::span<const T> of(const std::vector<T>& all, std::int64_t document) const {
    return std::span(all).subspan(at(bounds_[at(document)]), at(length(document)));
  }
  std::vector<TokenId> inputs_, targets_;
  std::vector<float> weights_;
  std::vector<std::int64_t> bounds_{0};
};

// What a pair of the validation part asks for: to generate from, and to compare with.
struct SupervisedPrompt {
  std::string prompt;  // in the template, up to the response
  std::vector<std::string> references;
};

// Reads the lines of `sources` (.jsonl) as config.format says. A document is the id that starts a
// text, where there is one, the template's text, prompt and response tokenized apart, and the id
// that ends a document. Of a text without a validation file of its own the last valid_fraction of
// the lines is for validation. A line may hold ids in place of texts: {"ids": […], "weights": […]}.
// Warns of lines that are too long, or that config.skip_bad_lines leaves out.
// Throws DataError as FILE:LINE naming the field for lines without prompt, response (an empty one
// too) or messages, or with an unknown role; DataError where nothing is left.
SupervisedSet read_supervised(const std::vector<std::string>& sources, const DataConfig& config,
                              const Tokenizer& tokenizer, std::int64_t ctx_len, TextPart part,
                              std::int64_t threads = 0, bool quiet = false);

// The texts of all documents, to train a tokenizer on.
std::vector<std::string> supervised_texts(const std::vector<std::string>& sources,
                                          const DataConfig& config, TextPart part);

// At most `count` prompts with their responses, evenly spread over the validation part.
std::vector<SupervisedPrompt> supervised_prompts(const DataConfig& config, std::int64_t count);

}  // namespace rwkvx

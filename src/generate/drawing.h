// One continuation in the making.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "rwkvx/generate/generator.h"
#include "rwkvx/generate/sampler.h"
#include "rwkvx/generate/text_stream.h"

namespace rwkvx {

// What a continuation leaves to the next one of the same text, beside the model's state.
struct DrawingState {
  SamplerMemory sampler;
  std::string held;             // bytes of tokens that were drawn and are not shown yet
  std::vector<TokenId> prefix;  // tokens of the prefix that are still to come
  bool at_start = false;        // the text has no character yet, the prompt's neither
};

// Takes logits, gives the token to feed next.
class Drawing {
 public:
  Drawing(const Tokenizer& tokenizer, const GenerateConfig& config, std::vector<TokenId> banned,
          DrawingState from, const DrawOptions& options);

  // Draws a token from the logits (V), to be appended. Different drawings may choose at a time.
  void choose(std::span<const float> logits);
  // Where the token is drawn elsewhere: whether that can be, the request, and the token that came
  // of it, negative where none could be drawn, as refuse_to_draw() has it.
  bool requests() const { return options_.top_logprobs == 0 && sampler_.requests(); }
  DrawRequest request();
  void choose(const TokenLogprob& drawn);
  // Appends the token. False: that was the last one.
  bool append(const ShowToken& show);
  // Where the text stands after the last token.
  DrawingState state() const;
  // Bytes of tokens so far, those held at the start included, and how many of them were shown.
  std::size_t bytes() const { return bytes_; }
  std::size_t shown() const { return bytes_ - stream_.held().size(); }

  Continuation result;
  TokenId token = 0;

 private:
  const Tokenizer& tokenizer_;
  std::int64_t limit_;
  DrawOptions options_;
  Sampler sampler_;
  TextStream stream_;
  std::vector<TokenId> prefix_;  // the next one last
  bool at_start_;
  std::size_t bytes_;
  // Of the token that comes next.
  double logprob_ = 0;
  std::vector<TokenLogprob> top_;
};

}  // namespace rwkvx

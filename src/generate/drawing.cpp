#include "generate/drawing.h"

#include <utility>

#include "rwkvx/base/interrupt.h"

namespace rwkvx {

Drawing::Drawing(const Tokenizer& tokenizer, const GenerateConfig& config,
                 std::vector<TokenId> banned, DrawingState from, const DrawOptions& options)
    : tokenizer_(tokenizer),
      limit_(config.max_new_tokens),
      options_(options),
      sampler_(config, options.sequence),
      stream_(config.stop),
      prefix_(std::move(from.prefix)),
      at_start_(from.at_start),
      bytes_(from.held.size()) {
  sampler_.ban(std::move(banned));
  sampler_.resume(std::move(from.sampler));
  stream_.restore(std::move(from.held));
  const auto ids = tokenizer.encode(config.prefix);
  prefix_.insert(prefix_.end(), ids.begin(), ids.end());
  prefix_ = {prefix_.rbegin(), prefix_.rend()};
  result.ended_by = "length";
}

void Drawing::choose(std::span<const float> logits) {
  // Ids beyond the tokenizer's are padding of the vocabulary and have no text.
  const auto usable = logits.first(static_cast<std::size_t>(tokenizer_.vocab_size()));
  if (prefix_.empty()) {
    token = sampler_.draw(usable);
  } else {
    token = prefix_.back();
    prefix_.pop_back();
  }
  top_ = top_log_probabilities(logits, tokenizer_.vocab_size(), options_.top_logprobs);
  logprob_ = log_probability(logits, token);
}

DrawRequest Drawing::request() {
  if (prefix_.empty()) return sampler_.request();
  DrawRequest request;
  request.forced = prefix_.back();
  return request;
}

void Drawing::choose(const TokenLogprob& drawn) {
  token = drawn.token;
  logprob_ = drawn.logprob;
  if (!prefix_.empty())
    prefix_.pop_back();
  else if (token < 0)
    refuse_to_draw(token == kAllTokensBanned);
  else
    sampler_.remember(token);
}

bool Drawing::append(const ShowToken& show) {
  ++result.tokens;
  result.logprob += logprob_;
  bool last = result.tokens >= limit_, wanted = true;
  std::string text;
  if (token == tokenizer_.document_end()) {
    result.ended_by = "document";
    last = true;
  } else {
    const auto piece = tokenizer_.piece_in_text(token, at_start_);
    bytes_ += piece.size();
    text = stream_.push(piece);
    if (stream_.stopped()) {
      result.ended_by = "stop";
      last = true;
    }
  }
  // Nothing comes after a document's end that could complete what is held.
  if (last && (!options_.hold || result.ended_by == "document")) text += stream_.finish();
  if (options_.keep_text) result.text += text;
  if (show) wanted = show({token, logprob_, text, top_});
  if ((!wanted || interrupted()) && result.ended_by == "length") {
    result.ended_by = "interrupt";
    last = true;
  }
  return !last;
}

DrawingState Drawing::state() const {
  DrawingState state{sampler_.memory(), "", {}, at_start_};
  if (options_.hold) {
    state.held = stream_.held();
    state.prefix = {prefix_.rbegin(), prefix_.rend()};
  }
  return state;
}

}  // namespace rwkvx

#include "rwkvx/generate/events.h"

#include <nlohmann/json.hpp>

#include "rwkvx/base/json_file.h"

namespace rwkvx {

using nlohmann::ordered_json;

ordered_json prompt_event(std::int64_t tokens, double milliseconds, const std::string& shown) {
  ordered_json event = {{"event", "prompt"}, {"tokens", tokens}, {"milliseconds", milliseconds}};
  if (!shown.empty()) event["text"] = shown;
  return event;
}

ordered_json prompt_token_event(const Tokenizer& tokenizer, const PromptToken& one, bool top) {
  ordered_json event = {{"event", "prompt_token"}, {"token", one.token}, {"text", one.text}};
  event["logprob"] = one.logprob ? ordered_json(*one.logprob) : ordered_json();
  if (top) event["top"] = top_json(tokenizer, one.top);
  return event;
}

ordered_json token_event(const Tokenizer& tokenizer, const DrawnToken& one, double milliseconds,
                         bool top) {
  ordered_json event = {{"event", "token"},
                        {"token", one.token},
                        {"text", one.text},
                        {"logprob", one.logprob},
                        {"milliseconds", milliseconds}};
  if (top) event["top"] = top_json(tokenizer, one.top);
  return event;
}

ordered_json end_event(const Continuation& result, const std::string& rest) {
  ordered_json event = {{"event", "end"},
                        {"ended_by", result.ended_by},
                        {"tokens", result.tokens},
                        {"logprob", result.logprob}};
  if (!rest.empty()) event["text"] = rest;
  return event;
}

ordered_json top_json(const Tokenizer& tokenizer, std::span<const TokenLogprob> top) {
  auto list = ordered_json::array();
  for (const auto& one : top)
    list.push_back(
        {{"token", one.token}, {"text", tokenizer.piece(one.token)}, {"logprob", one.logprob}});
  return list;
}

ordered_json token_logprob_json(const Tokenizer& tokenizer, const DrawnToken& one) {
  return {{"token", one.token},
          {"text", tokenizer.piece(one.token)},
          {"logprob", one.logprob},
          {"top", top_json(tokenizer, one.top)}};
}

std::string event_line(const ordered_json& event) { return json_dump(event) + "\n"; }

}  // namespace rwkvx

// A generation as JSON objects, one per line; docs/engine.md and docs/serve.md list their members.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>

#include "rwkvx/generate/generator.h"

namespace rwkvx {

// The prompt went through; `shown` is the text that an earlier continuation had held.
nlohmann::ordered_json prompt_event(std::int64_t tokens, double milliseconds,
                                    const std::string& shown);
// A token of the prompt; "logprob" is null for a text's first. "top" stands there where `top`.
nlohmann::ordered_json prompt_token_event(const Tokenizer& tokenizer, const PromptToken& one,
                                          bool top);
nlohmann::ordered_json token_event(const Tokenizer& tokenizer, const DrawnToken& one,
                                   double milliseconds, bool top);
// `rest` is text that is shown after the last token's.
nlohmann::ordered_json end_event(const Continuation& result, const std::string& rest);

// [{"token", "text", "logprob"}, …]; the texts are the tokens' own, U+FFFD for bytes that are not
// a character.
nlohmann::ordered_json top_json(const Tokenizer& tokenizer, std::span<const TokenLogprob> top);

// {"token", "text", "logprob", "top"} of a drawn token, the text being the token's own.
nlohmann::ordered_json token_logprob_json(const Tokenizer& tokenizer, const DrawnToken& one);

// As a line, with its break; never holds another one, and always UTF-8.
std::string event_line(const nlohmann::ordered_json& event);

}  // namespace rwkvx

#include "rwkvx/data/chat_template.h"

#include <algorithm>

#include "rwkvx/base/error.h"

namespace rwkvx {
namespace {

constexpr std::string_view kPrompt = "{prompt}", kResponse = "{response}", kRole = "{role}",
                           kContent = "{content}";

[[noreturn]] void refuse(const std::string& where, const std::string& text,
                         const std::string& wanted) {
  throw ConfigError(where, "expected plain, chatml, user_assistant or a text with " + wanted +
                               ", got " + nlohmann::json(text).dump());
}

// Where `part` stands, which must be once.
std::size_t place_of(const std::string& text, std::string_view part, const std::string& where,
                     const std::string& wanted) {
  const auto at = text.find(part);
  if (at == std::string::npos || text.find(part, at + 1) != std::string::npos)
    refuse(where, text, wanted);
  return at;
}

std::string replaced(std::string text, std::string_view part, std::string_view by) {
  if (const auto at = text.find(part); at != std::string::npos) text.replace(at, part.size(), by);
  return text;
}

}  // namespace

const std::vector<std::string>& ChatTemplate::roles() {
  static const std::vector<std::string> roles{"system", "user", "assistant"};
  return roles;
}

ChatTemplate::ChatTemplate(const std::string& name, DataFormat format, const std::string& where) {
  if (name == "plain") {
    middle_ = "\n";
    for (auto& turn : turns_) turn.between = "\n";
  } else if (name == "chatml") {
    for (std::size_t i = 0; i < 3; ++i)
      turns_[i] = {"<|im_start|>" + roles()[i] + "\n", "<|im_end|>", "\n"};
  } else if (name == "user_assistant") {
    turns_[0] = {"System: ", "", "\n\n"};
    turns_[1] = {"User: ", "", "\n\n"};
    // No space at the end of a prompt: tokenizers put it before the word that follows.
    turns_[2] = {"Assistant:", "", "\n\n"};
    space_ = true;
  } else if (format == DataFormat::kMessages) {
    const std::string wanted = "{role} and {content}";
    const auto role = place_of(name, kRole, where, wanted),
               content = place_of(name, kContent, where, wanted);
    if (role > content) refuse(where, name, wanted + ", in this order");
    for (std::size_t i = 0; i < 3; ++i)
      turns_[i] = {replaced(name.substr(0, content), kRole, roles()[i]),
                   name.substr(content + kContent.size()), ""};
  } else {
    const std::string wanted = "{prompt} and {response}";
    const auto prompt = place_of(name, kPrompt, where, wanted),
               response = place_of(name, kResponse, where, wanted);
    if (prompt > response) refuse(where, name, wanted + ", in this order");
    before_ = name.substr(0, prompt);
    middle_ = name.substr(prompt + kPrompt.size(), response - prompt - kPrompt.size());
    after_ = name.substr(response + kResponse.size());
    return;
  }
  if (name == "plain") return;
  before_ = turns_[1].before;
  middle_ = turns_[1].close + turns_[1].between + turns_[2].before;
  after_ = turns_[2].close;
}

const ChatTemplate::Turn& ChatTemplate::turn_of(std::string_view role) const {
  const auto at = std::ranges::find(roles(), role) - roles().begin();
  return turns_[static_cast<std::size_t>(std::min<std::ptrdiff_t>(at, 2))];
}

std::string ChatTemplate::led(std::string_view response) const {
  return (space_ && !response.starts_with(' ') ? " " : "") + std::string(response);
}

std::string ChatTemplate::before_response(std::string_view prompt) const {
  return before_ + std::string(prompt) + middle_;
}

std::vector<TextSpan> ChatTemplate::pair(std::string_view prompt, std::string_view response) const {
  return {{before_response(prompt), false}, {led(response) + after_, true}};
}

std::vector<TextSpan> ChatTemplate::messages(const std::vector<ChatMessage>& messages) const {
  std::vector<TextSpan> spans;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const auto& [role, content] = messages[i];
    const auto& turn = turn_of(role);
    const bool response = role == "assistant", last = i + 1 == messages.size();
    spans.push_back({turn.before, false});
    spans.push_back({(response ? led(content) : content) + turn.close, response});
    // What tells that a response has ended is learned with it.
    if (!last) spans.push_back({turn.between, response});
  }
  // Pieces of one kind belong together, so that they are tokenized as one text.
  std::vector<TextSpan> joined;
  for (auto& span : spans) {
    if (span.text.empty()) continue;
    if (!joined.empty() && joined.back().response == span.response)
      joined.back().text += span.text;
    else
      joined.push_back(std::move(span));
  }
  return joined;
}

}  // namespace rwkvx

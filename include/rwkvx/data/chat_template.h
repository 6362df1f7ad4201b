// How a prompt and its response, or a conversation, become the text that a model learns and sees.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/config/train_config.h"

namespace rwkvx {

struct ChatMessage {
  std::string role, content;
};

// A part of a document's text that is learned, or not.
struct TextSpan {
  std::string text;
  bool response = false;
};

// plain: "{prompt}\n{response}", messages one line each. chatml: "<|im_start|>ROLE\nCONTENT
// <|im_end|>\n". user_assistant: "User: …\n\nAssistant: …\n\n", as RWKV's chat models are used
// (RWKV-LM's and ChatRWKV's prompts). Or a text of one's own.
class ChatTemplate {
 public:
  // Throws ConfigError naming `where` for a text without the parts that `format` needs.
  ChatTemplate(const std::string& name_or_text, DataFormat format, const std::string& where);

  // Roles that messages may have.
  static const std::vector<std::string>& roles();
  // What stands before the response: what a trained model is to be given.
  std::string before_response(std::string_view prompt) const;
  // The document of a pair, or of messages, whose roles must be known; the end of the document
  // follows. Nothing of a template stands behind the last message but what closes it.
  std::vector<TextSpan> pair(std::string_view prompt, std::string_view response) const;
  std::vector<TextSpan> messages(const std::vector<ChatMessage>& messages) const;

 private:
  // A message: `before` with the role, content, `close`; and `between` where another follows.
  struct Turn {
    std::string before, close, between;
  };
  const Turn& turn_of(std::string_view role) const;
  // A response as it stands behind what calls for it.
  std::string led(std::string_view response) const;
  std::string before_, middle_, after_;  // of a pair: before {prompt}, before {response}, after
  Turn turns_[3];                        // of roles()
  bool space_ = false;                   // stands before responses that do not begin with one
};

}  // namespace rwkvx

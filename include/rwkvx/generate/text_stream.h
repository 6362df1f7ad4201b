// Bytes of tokens to text that can be shown: whole UTF-8 characters, ending before a stop text.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rwkvx {

// Collects the bytes of one sequence. What push() returns never cuts a character and never holds a
// stop text or a beginning of one that may still be completed.
class TextStream {
 public:
  explicit TextStream(std::vector<std::string> stops);
  // Adds bytes; returns the text that is safe to show. Nothing more comes once stopped() is true.
  std::string push(std::string_view bytes);
  // Returns what was held back, and nothing after a stop text; an incomplete last character is
  // dropped.
  std::string finish();
  bool stopped() const { return stopped_; }
  // The bytes that push() was given and has not shown: a part of a character, what may be the
  // beginning of a stop text, or, where stopped(), the stop text and what came after it.
  const std::string& held() const { return held_; }
  // Before the first push(): takes over what another stream of the same text holds.
  void restore(std::string held) { held_ = std::move(held); }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace rwkvx

// Text with its boundaries.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rwkvx/synth/synth.h"

namespace rwkvx {

using Slots = std::vector<std::pair<std::string_view, std::string>>;

// Builds a document from sentence templates. In a template {x} is a slot, and | ends a phrase;
// where . ! or ? follows the |, the sentence ends too.
class SynthText {
 public:
  // `capitals`: whether sentences start with one.
  explicit SynthText(bool capitals) : capitals_(capitals), capital_(capitals) {}
  // Appends a template, after a space unless a paragraph begins.
  void say(std::string_view sentences, const Slots& slots = {});
  void end_paragraph(std::string_view line_ends = "\n\n");
  std::int64_t size() const { return static_cast<std::int64_t>(text_.size()); }
  std::int64_t words() const { return words_; }
  int sentences_in_paragraph() const { return sentences_; }
  // Moves text and boundaries into `document`, with one line end at the end.
  void finish(SynthDocument& document);

 private:
  void mark(Boundary::Kind kind);
  std::string text_;
  std::vector<Boundary> boundaries_;
  std::int64_t words_ = 0;
  int sentences_ = 0;
  bool capitals_, capital_;
};

}  // namespace rwkvx

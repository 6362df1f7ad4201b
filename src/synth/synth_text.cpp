#include "synth/synth_text.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace rwkvx {

void SynthText::mark(Boundary::Kind kind) {
  if (!text_.empty()) boundaries_.push_back({kind, size()});
}

void SynthText::say(std::string_view sentences, const Slots& slots) {
  const auto put = [&](char letter) {
    const bool space = letter == ' ' || letter == '\n';
    if (space && !text_.empty() && text_.back() != ' ' && text_.back() != '\n') {
      mark(Boundary::Kind::kWord);
      ++words_;
    }
    if (capital_ && letter >= 'a' && letter <= 'z') letter = static_cast<char>(letter - 'a' + 'A');
    if ((letter >= 'A' && letter <= 'Z')) capital_ = false;
    text_ += letter;
  };
  if (sentences_ > 0 && !text_.empty()) put(' ');
  ++sentences_;
  for (std::size_t place = 0; place < sentences.size(); ++place) {
    if (sentences[place] == '{') {
      const auto end = sentences.find('}', place);
      const auto name = sentences.substr(place + 1, end - place - 1);
      const auto slot = std::find_if(slots.begin(), slots.end(), [&](const auto& candidate) {
        return candidate.first == name;
      });
      if (slot == slots.end())
        throw std::logic_error("SynthText: no slot for " + std::string(sentences));
      for (const char letter : slot->second) put(letter);
      place = end;
    } else if (sentences[place] == '|') {
      bool ends_sentence = false;
      static constexpr std::string_view kClosing = ",.;:!?\"";
      while (place + 1 < sentences.size() &&
             kClosing.find(sentences[place + 1]) != std::string_view::npos) {
        const char letter = sentences[++place];
        ends_sentence = ends_sentence || letter == '.' || letter == '!' || letter == '?';
        put(letter);
      }
      mark(Boundary::Kind::kPhrase);
      if (ends_sentence) {
        mark(Boundary::Kind::kSentence);
        capital_ = capitals_;
      }
    } else {
      put(sentences[place]);
    }
  }
}

void SynthText::end_paragraph(std::string_view line_ends) {
  mark(Boundary::Kind::kWord);
  ++words_;
  mark(Boundary::Kind::kParagraph);
  text_ += line_ends;
  sentences_ = 0;
}

void SynthText::finish(SynthDocument& document) {
  end_paragraph("\n");
  std::sort(boundaries_.begin(), boundaries_.end(), [](const Boundary& a, const Boundary& b) {
    return std::pair(a.offset, a.kind) < std::pair(b.offset, b.kind);
  });
  document.text = std::move(text_);
  document.boundaries = std::move(boundaries_);
}

}  // namespace rwkvx

#include "rwkvx/metrics/porter.h"

namespace rwkvx {
namespace {

struct Pair {
  std::string_view from, to;
};

constexpr Pair kIrregular[] = {
    {"skies", "sky"},      {"dying", "die"},       {"lying", "lie"},        {"tying", "tie"},
    {"innings", "inning"}, {"outings", "outing"},  {"cannings", "canning"}, {"inning", "inning"},
    {"outing", "outing"},  {"canning", "canning"}, {"sky", "sky"},          {"news", "news"},
    {"howe", "howe"},      {"proceed", "proceed"}, {"exceed", "exceed"},    {"succeed", "succeed"},
};

// In each list the first suffix that the word ends with decides, whether or not its condition
// holds, so a longer suffix stands before one that it ends with.
constexpr Pair kStep2[] = {
    {"ational", "ate"}, {"tional", "tion"}, {"enci", "ence"}, {"anci", "ance"}, {"izer", "ize"},
    {"bli", "ble"},     {"alli", "al"},     {"entli", "ent"}, {"eli", "e"},     {"ousli", "ous"},
    {"ization", "ize"}, {"ation", "ate"},   {"ator", "ate"},  {"alism", "al"},  {"iveness", "ive"},
    {"fulness", "ful"}, {"ousness", "ous"}, {"aliti", "al"},  {"iviti", "ive"}, {"biliti", "ble"},
    {"fulli", "ful"},
};
constexpr Pair kStep3[] = {
    {"icate", "ic"}, {"ative", ""}, {"alize", "al"}, {"iciti", "ic"},
    {"ical", "ic"},  {"ful", ""},   {"ness", ""},
};
constexpr std::string_view kStep4[] = {"al",   "ance", "ence",  "er",   "ic",  "able",
                                       "ible", "ant",  "ement", "ment", "ent", "ou",
                                       "ism",  "ate",  "iti",   "ous",  "ive", "ize"};

class Stemmer {
 public:
  Stemmer(char* word, std::size_t length) : word_(word), length_(length) {}

  std::size_t run() {
    if (length_ <= 2) return length_;
    for (const auto& irregular : kIrregular)
      if (view() == irregular.from) {
        replace(length_, irregular.to);
        return length_;
      }
    plurals();
    past_forms();
    final_y();
    step2();
    for (const auto& rule : kStep3)
      if (ends(rule.from)) {
        if (measure(length_ - rule.from.size()) > 0) replace(rule.from.size(), rule.to);
        break;
      }
    step4();
    step5();
    return length_;
  }

 private:
  std::string_view view() const { return {word_, length_}; }
  bool ends(std::string_view suffix) const { return view().ends_with(suffix); }
  void replace(std::size_t suffix, std::string_view with) {
    length_ -= suffix;
    for (const char c : with) word_[length_++] = c;
  }

  // y is a vowel after a consonant, so what it is depends on the run of y before it.
  bool consonant(std::size_t i) const {
    switch (word_[i]) {
      case 'a':
      case 'e':
      case 'i':
      case 'o':
      case 'u':
        return false;
      case 'y': {
        std::size_t first = i;
        while (first > 0 && word_[first - 1] == 'y') --first;
        const bool first_is_consonant = first == 0 || !consonant(first - 1);
        return first_is_consonant == ((i - first) % 2 == 0);
      }
      default:
        return true;
    }
  }
  // Porter's m: how often a vowel is followed by a consonant among the first `length` letters.
  std::size_t measure(std::size_t length) const {
    std::size_t count = 0;
    bool after_vowel = false, after_consonant = false;
    for (std::size_t i = 0; i < length; ++i) {
      const bool is_consonant = word_[i] == 'y' ? i == 0 || !after_consonant : consonant(i);
      count += is_consonant && after_vowel;
      after_vowel = !is_consonant;
      after_consonant = is_consonant;
    }
    return count;
  }
  bool has_vowel(std::size_t length) const {
    for (std::size_t i = 0; i < length; ++i)
      if (!consonant(i)) return true;
    return false;
  }
  // Porter's *o on the first `length` letters, which also holds for vowel-consonant alone.
  bool short_end(std::size_t length) const {
    if (length == 2) return !consonant(0) && consonant(1);
    if (length < 3) return false;
    const char last = word_[length - 1];
    return consonant(length - 3) && !consonant(length - 2) && consonant(length - 1) &&
           last != 'w' && last != 'x' && last != 'y';
  }

  void plurals() {
    if (ends("ies"))
      replace(3, length_ == 4 ? "ie" : "i");
    else if (ends("sses"))
      replace(4, "ss");
    else if (ends("s") && !ends("ss"))
      replace(1, "");
  }

  void past_forms() {
    if (ends("ied")) return replace(3, length_ == 4 ? "ie" : "i");
    if (ends("eed")) {
      if (measure(length_ - 3) > 0) replace(1, "");
      return;
    }
    const std::size_t suffix = ends("ed") ? 2 : ends("ing") ? 3 : 0;
    if (suffix == 0 || !has_vowel(length_ - suffix)) return;
    length_ -= suffix;
    if (ends("at") || ends("bl") || ends("iz")) return replace(0, "e");
    const char last = word_[length_ - 1];
    if (length_ >= 2 && last == word_[length_ - 2] && consonant(length_ - 1)) {
      if (last != 'l' && last != 's' && last != 'z') --length_;
    } else if (measure(length_) == 1 && short_end(length_)) {
      replace(0, "e");
    }
  }

  void final_y() {
    if (ends("y") && length_ > 2 && consonant(length_ - 2)) word_[length_ - 1] = 'i';
  }

  void step2() {
    while (ends("alli") && measure(length_ - 4) > 0) replace(4, "al");
    for (const auto& rule : kStep2)
      if (ends(rule.from)) {
        if (measure(length_ - rule.from.size()) > 0) replace(rule.from.size(), rule.to);
        return;
      }
    if (ends("logi") && measure(length_ - 3) > 0) --length_;
  }

  void step4() {
    if (ends("ion")) {
      const std::size_t stem = length_ - 3;
      if (stem > 0 && (word_[stem - 1] == 's' || word_[stem - 1] == 't') && measure(stem) > 1)
        length_ = stem;
      return;
    }
    for (const auto suffix : kStep4)
      if (ends(suffix)) {
        if (measure(length_ - suffix.size()) > 1) length_ -= suffix.size();
        return;
      }
  }

  void step5() {
    if (ends("e")) {
      const std::size_t m = measure(length_ - 1);
      if (m > 1 || (m == 1 && !short_end(length_ - 1))) --length_;
    }
    if (ends("ll") && measure(length_ - 1) > 1) --length_;
  }

  char* word_;
  std::size_t length_;
};

}  // namespace

std::size_t porter_stem(char* word, std::size_t length) { return Stemmer(word, length).run(); }

std::string porter_stem(std::string_view word) {
  std::string stem(word);
  stem.resize(porter_stem(stem.data(), stem.size()));
  return stem;
}

}  // namespace rwkvx

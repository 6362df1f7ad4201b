// Porter's stemmer in the variant that rouge-score uses.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace rwkvx {

// Stems a lower-case word in place and returns the length of its stem, which is never longer than
// the word. Words of one or two letters stay as they are. M. F. Porter, "An algorithm for suffix
// stripping", Program 14(3), 1980, with the extensions of NLTK's default mode: a table of irregular
// words, ies and ied by length, y only after a consonant, fulli, logi, bli and repeated alli.
// Characters other than a, e, i, o, u and y count as consonants.
std::size_t porter_stem(char* word, std::size_t length);

std::string porter_stem(std::string_view word);

}  // namespace rwkvx

// Words of Japanese and Korean texts by MeCab, where it is installed.
#pragma once

#include <filesystem>
#include <string>

#include "rwkvx/metrics/bleu.h"

namespace rwkvx {

struct MecabSetup {
  bool korean = false;
  // Directory of the dictionary: IPADIC in UTF-8, by default where Debian's mecab-ipadic-utf8 has
  // it, or mecab-ko-dic, which has no default.
  std::filesystem::path dictionary{};
  std::string library = "libmecab.so.2";  // a name for the loader or a path; of Korean mecab-ko's
};

struct Mecab {
  BleuCutter cut;  // a text's words, as `mecab -Owakati` writes them
  // "0.996-IPA", as sacrebleu has it; with Debian's dictionary, which has a word more than the one
  // of sacrebleu, "0.996-IPA-392127".
  std::string signature;
};

// Loads the library when it is called, so that a program needs no MeCab otherwise. cut() may be
// called from several threads; it is deterministic. Throws ConfigError where there is no library or
// it is not the one that the language wants, DataError for a dictionary that is not in UTF-8 or
// not the one that sacrebleu asks for or Debian's, told by its number of words.
Mecab open_mecab(const MecabSetup& setup);

}  // namespace rwkvx

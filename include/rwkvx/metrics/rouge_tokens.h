// Texts as lists of numbers, cut the way google-research's rouge does it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rwkvx {

// The tokens of a text. sentence_ends[k] is the number of tokens up to the end of the k-th sentence
// that has any; sentences end at '\n'.
struct TokenList {
  std::vector<std::uint32_t> ids;
  std::vector<std::uint32_t> sentence_ends;
};

// google: runs of a-z and 0-9, as rouge-score; unicode: words of every script by the rules of UAX
// #29 (see unicode_words); char: characters but for white space; given: by a function, for example
// a sentencepiece model's ids. All but the last lower-case the text.
enum class RougeTokenization { kGoogle, kUnicode, kChar, kGiven };
constexpr std::string_view enum_names(RougeTokenization) { return "google|unicode|char|spm"; }

// How ROUGE cuts texts. Stems are of words that are all a-z.
struct RougeTokens {
  RougeTokenization kind = RougeTokenization::kGoogle;
  bool stemmer = false;
  // The tokens of one line, for kGiven. Called from several threads.
  std::function<void(std::string_view, std::vector<std::int32_t>&)> given{};
  std::string given_name{};  // what a signature calls it
};

// For google: lower-cases a text, takes each longest run of a-z and 0-9 as a word and, with the
// stemmer on, stems words of more than three letters. Lower-casing is Unicode's, but only two
// characters beyond ASCII have lower-case forms with a letter of a-z in them: U+212A KELVIN SIGN is
// k, and U+0130 is i and a combining dot, which separates. Any bytes will do: those that are not of
// a-z, A-Z, 0-9 or these two characters separate. Equal tokens have equal ids. Not thread-safe.
class RougeTokenizer {
 public:
  explicit RougeTokenizer(RougeTokens options);

  // Starts a group of texts whose ids can be compared with one another. Ids of earlier groups
  // usually go on; they are forgotten when there are so many that they would fill the memory.
  void begin_group();
  // Ids are below id_limit() as it is after the call.
  void tokenize(std::string_view text, TokenList& tokens);
  std::uint32_t id_limit() const { return next_id_; }

 private:
  // A hash table from words to ids. Words of up to 16 letters are their own key.
  class Table {
   public:
    Table() { clear(); }
    // The value stored for the word at `word`, in which 16 bytes can be read whatever its length.
    // Where there is none, `fresh` is set and the value can be written.
    std::uint32_t& find(const char* word, std::size_t length, bool& fresh);
    void clear();
    std::size_t size() const { return used_; }
    std::size_t letters() const { return letters_.size(); }

   private:
    struct Entry {
      std::uint64_t key[2];  // the word; for long words its hash and where its letters begin
      std::uint32_t length;  // 0: a free place
      std::uint32_t value;
    };
    void grow();
    std::vector<Entry> entries_;
    std::size_t used_ = 0;
    std::string letters_;  // of the long words
  };

  std::uint32_t word_id(const char* word, std::size_t length);
  void tokenize_google(std::string_view text, TokenList& tokens);
  void tokenize_line(std::string_view line, TokenList& tokens);

  RougeTokens options_;
  std::uint32_t next_id_ = 0;
  Table words_, stems_;
  std::string plain_;  // the text in lower case, separators as 0
  std::string stem_;
  std::vector<std::uint32_t> codes_;
  std::vector<std::int32_t> given_;
};

}  // namespace rwkvx

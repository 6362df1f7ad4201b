// Texts as lists of numbers, cut the way google-research's rouge does it.
#pragma once

#include <cstddef>
#include <cstdint>
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

// Lower-cases a text, takes each longest run of a-z and 0-9 as a word and, with the stemmer on,
// stems words of more than three letters. Lower-casing is Unicode's, but only two characters beyond
// ASCII have lower-case forms with a letter of a-z in them: U+212A KELVIN SIGN is k, and U+0130 is
// i and a combining dot, which separates. Any bytes will do: those that are not of a-z, A-Z, 0-9 or
// these two characters separate. Equal tokens have equal ids. Not thread-safe.
class RougeTokenizer {
 public:
  explicit RougeTokenizer(bool stemmer);

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

  bool stemmer_;
  std::uint32_t next_id_ = 0;
  Table words_, stems_;
  std::string plain_;  // the text in lower case, separators as 0
  std::string stem_;
};

}  // namespace rwkvx

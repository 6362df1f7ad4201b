// Text to token ids and back, behind one interface.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace rwkvx {

using TokenId = std::int32_t;
inline constexpr TokenId kNoToken = -1;

// Every tokenizer of ours is lossless: the bytes of the pieces of encode(text), one after the
// other, are `text` again, whatever bytes it holds. The exceptions are models from elsewhere that
// rewrite their input, and ids; see lossless(). Thread-safe after construction.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // Any bytes, UTF-8 or not, to ids in 0 .. vocab_size()-1. Never emits document_end() but where
  // the text spells it: a special token of a tokenizer.json, a number of ids. Throws DataError for
  // text of ids that is not a list of such numbers.
  virtual std::vector<TokenId> encode(std::string_view text) const = 0;
  // The bytes of one id, possibly part of a UTF-8 character; "" for document_end() and for ids that
  // have no text. Throws DataError for an id outside the vocabulary.
  virtual std::string piece(TokenId id) const = 0;
  // The same where nothing of the text was written yet (`at_start`, which becomes false with the
  // first text): a sentencepiece model that puts a space before each text drops it here again, as
  // its library does.
  virtual std::string piece_in_text(TokenId id, bool& at_start) const;
  // The text of all ids, from its start.
  std::string decode(const std::vector<TokenId>& ids) const;
  virtual std::int64_t vocab_size() const = 0;
  // False for a sentencepiece model or a tokenizer.json that normalizes, puts a space before the
  // text, drops spaces or lacks pieces for some bytes: decoding then gives the text as that model
  // rewrites it. False for ids, whose text is the numbers with one space between them.
  virtual bool lossless() const { return true; }
  // The id that ends a document (and precedes the first token of the next one); kNoToken where the
  // vocabulary has none.
  virtual TokenId document_end() const = 0;
  // The id that a model reads before the first token of a text: document_end(), where there is one.
  virtual TokenId text_start() const { return document_end(); }
  // "byte", "sentencepiece", "world", "huggingface" or "ids".
  virtual std::string kind() const = 0;
  // XXH3-128 over kind and model bytes: two tokenizers with the same hash give the same ids.
  virtual std::string hash() const = 0;
  // Writes what load_tokenizer() needs into `directory`, which exists: tokenizer.json (kind,
  // vocabulary size, hash) and the model file, if the kind has one. Throws FileError.
  virtual void save(const std::filesystem::path& directory) const = 0;
};

// Ids 0 .. 255 are the bytes; 256 ends a document. Without `document_end` there is no such id, and
// texts start after a line end.
std::unique_ptr<Tokenizer> make_byte_tokenizer(bool document_end = true);

// Ids 0 .. count-1, whose text is their numbers: "3 1 4". `document_end` may be one of them, one
// beyond them (usually `count`) or kNoToken. Throws DataError for more ids than kMostIds.
inline constexpr std::int64_t kMostIds = std::int64_t{1} << 24;
std::unique_ptr<Tokenizer> make_ids_tokenizer(std::int64_t count, std::int64_t document_end);

// What --tokenizer and tokenizer.path may name, for messages and help.
inline constexpr const char* kTokenizerNames =
    "tokenizer directory, Hugging Face tokenizer.json, sentencepiece .model, RWKV-World vocabulary "
    ".txt, byte or ids:COUNT";

// From a directory written by save() or holding a tokenizer.json of Hugging Face; a single file: a
// tokenizer.json, a sentencepiece .model or an RWKV-World vocabulary .txt; or where there is no
// such file by a name: "byte", "ids:COUNT" (documents end with the id COUNT), "ids:COUNT:END" or
// "ids:COUNT:none". Throws DataError or FileError naming the file and what is wrong with it.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path);

// Of a sentencepiece model that is trained here: 256 bytes, the document's end, the unknown piece,
// the line end, and a few of the text.
inline constexpr std::int64_t kLeastSentencePieces = 270;

// What a sentencepiece model is trained with; see TokenizerConfig.
struct SentencePieceTraining {
  std::int64_t vocab_size = 1024;
  std::string model_type = "unigram";  // or "bpe"
  double character_coverage = 0.9995;  // share of characters that get a piece
};

// Trains a sentencepiece model on documents (whole texts, line breaks included) with byte fallback
// and without any normalization. The same documents and settings give the same model. Throws
// DataError where the text is too small for the vocabulary, saying how large it may be; Interrupted
// where a signal came, while the library works on in the background.
std::unique_ptr<Tokenizer> train_sentencepiece(const std::vector<std::string>& documents,
                                               const SentencePieceTraining& training);

}  // namespace rwkvx

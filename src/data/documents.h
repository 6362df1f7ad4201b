// The documents of text files one after the other, without loading the files.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/base/files.h"
#include "rwkvx/base/text_file.h"
#include "rwkvx/config/train_config.h"
#include "rwkvx/data/corpus.h"

namespace rwkvx {

// A document as it lies in its file: the text itself, or the line of a .jsonl file that holds it.
struct Document {
  std::string_view bytes;
  std::int64_t line = 0;  // of a .jsonl file, counted from 1; 0 for text
  std::size_t source = 0;
  std::shared_ptr<const MappedFile> file;  // keeps `bytes` alive, with `text` where that is a copy
  std::shared_ptr<const TextFile> text;
  // The share of it that is meant, in bytes of `bytes`; all of it unless a document is split.
  std::size_t begin = 0, end = 0;
};

// Reads the documents of all sources in order; see build_tokens() for what a document is.
class DocumentReader {
 public:
  // Throws ConfigError for a separator that no line can equal.
  DocumentReader(const std::vector<std::string>& sources, const DataConfig& config);
  // False at the end. Throws FileError where a source cannot be read, or became shorter while it
  // was read; DataError where it is no text (TextFile).
  bool next(Document& document);

 private:
  bool next_text(Document& document);
  bool next_line(Document& document);
  const std::vector<std::string>& sources_;
  const DataConfig& config_;
  std::shared_ptr<const TextFile> text_;
  std::shared_ptr<const MappedFile> file_;
  std::size_t source_ = 0, place_ = 0;
  std::int64_t line_ = 0;
};

// Where a text is split for validation.
struct Split {
  std::int64_t document = 0;  // the first that is not, or not wholly, for training
  std::size_t offset = 0;     // bytes of it that are
  std::int64_t train_bytes = 0, valid_bytes = 0;
};
Split find_split(const std::vector<std::string>& sources, const DataConfig& config);

// The documents of one part; see TextPart.
class PartReader {
 public:
  PartReader(const std::vector<std::string>& sources, const DataConfig& config, TextPart part);
  bool next(Document& document);
  // Bytes that next() will go over, roughly: line ends and separators may count or not.
  std::int64_t total_bytes() const { return total_bytes_; }

 private:
  DocumentReader reader_;
  TextPart part_;
  Split split_;
  std::int64_t number_ = 0, total_bytes_ = 0;
};

// The text of a document: a view of the file, or what the .jsonl line says, kept in `storage`.
// Throws DataError as FILE:LINE for a line that is not an object with the text field.
std::string_view document_text(const Document& document, const std::vector<std::string>& sources,
                               const std::string& text_field, std::string& storage);

// Reads the ids of a document that is a .jsonl line with an array of them, alone or in its text
// field; false for other documents. Throws DataError as FILE:LINE for what is no id below
// vocab_size.
bool document_ids(const Document& document, const std::vector<std::string>& sources,
                  const std::string& text_field, std::int64_t vocab_size,
                  std::vector<TokenId>& ids);

// Length of the first piece of `text`, see build_tokens().
std::size_t piece_length(std::string_view text);

}  // namespace rwkvx

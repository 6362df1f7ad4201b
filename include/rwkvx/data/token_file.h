// Token files: documents as ids in the memory-mapped binidx layout, a pair PREFIX.idx and
// PREFIX.bin.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/text/tokenizer.h"

namespace rwkvx {

// PREFIX.idx, PREFIX.bin and PREFIX.json (the manifest, see corpus.h) of a token file. A name that
// ends in one of the three extensions stands for its prefix.
struct TokenFilePaths {
  explicit TokenFilePaths(const std::filesystem::path& prefix);
  std::filesystem::path prefix, index, tokens, manifest;
};

// Tokens one after the other, wherever they lie. Thread-safe.
class TokenSource {
 public:
  virtual ~TokenSource() = default;
  // Tokens of all documents together, document ends included.
  virtual std::int64_t size() const = 0;
  // Copies tokens [offset, offset + count) to `out`. Throws DataError unless all of them exist.
  virtual void read(std::int64_t offset, std::int64_t count, std::int64_t* out) const = 0;
  std::vector<TokenId> read(std::int64_t offset, std::int64_t count) const;
  // What messages call it.
  virtual std::string name() const = 0;
  // Throws DataError unless every id is in 0 .. vocab_size - 1, naming the first that is not. Reads
  // everything unless the width of the ids alone answers.
  virtual void check_vocab(std::int64_t vocab_size) const;
};

// Reads a pair without loading it. All sizes and offsets of the index are checked when it is
// opened, so reading cannot leave the file. Documents lie one after the other without a gap; each
// ends with the tokenizer's document_end id. Thread-safe.
//
// Layout, all little-endian (Megatron's MMapIndexedDataset, version 1): .idx is "MMIDIDX\0\0",
// u64 1, u8 type (1: u8, 2: i8, 3: i16, 4: i32, 5: i64, 8: u16; written: 8 or 4), u64 items, u64
// documents + 1, i32 items sizes in tokens, i64 items byte offsets into .bin, i64 documents + 1
// item numbers at which documents start. .bin is the ids alone.
class TokenFile : public TokenSource {
 public:
  // Throws FileError where a file cannot be read, DataError (naming the file, what was expected
  // and what it has) where it is not such a pair.
  explicit TokenFile(const std::filesystem::path& prefix);

  std::int64_t size() const override { return size_; }
  std::int64_t documents() const { return static_cast<std::int64_t>(bounds_.size()) - 1; }
  // The first token of a document and the one after its last. `document` is 0 .. documents() - 1.
  struct Bounds {
    std::int64_t begin, end;
  };
  Bounds document(std::int64_t document) const;
  // Bytes of one id in the file: 1, 2, 4 or 8.
  int width() const;
  const std::filesystem::path& prefix() const { return paths_.prefix; }
  std::string name() const override { return paths_.tokens.string(); }

  using TokenSource::read;
  void read(std::int64_t offset, std::int64_t count, std::int64_t* out) const override;
  void check_vocab(std::int64_t vocab_size) const override;

 private:
  TokenFilePaths paths_;
  MappedFile tokens_;
  unsigned char type_ = 0;
  std::int64_t size_ = 0;
  std::vector<std::int64_t> bounds_;  // first token of each document, then size()
};

// Parts of token files, one after the other.
class TokenChain : public TokenSource {
 public:
  struct Part {
    std::shared_ptr<const TokenFile> file;
    std::int64_t begin, end;  // tokens of it
  };
  // Not empty, nor any of its parts.
  explicit TokenChain(std::vector<Part> parts);
  std::int64_t size() const override { return starts_.back(); }
  using TokenSource::read;
  void read(std::int64_t offset, std::int64_t count, std::int64_t* out) const override;
  std::string name() const override;
  void check_vocab(std::int64_t vocab_size) const override;

 private:
  std::vector<Part> parts_;
  std::vector<std::int64_t> starts_;  // where each part begins, and the last ends
};

// Writes a pair. Nothing is seen under the final names before commit(); without commit() nothing is
// left behind. Throws FileError where the disk fails.
class TokenFileWriter {
 public:
  // Ids take 2 bytes where vocab_size <= 65536, else 4.
  TokenFileWriter(const std::filesystem::path& prefix, std::int64_t vocab_size);
  // Appends ids to the document at hand. Throws DataError for an id outside the vocabulary.
  void add(std::span<const TokenId> ids);
  // Appends `end`, the tokenizer's document_end, unless that is kNoToken, and closes the document.
  void end_document(TokenId end);
  std::int64_t tokens() const { return tokens_; }
  std::int64_t documents() const { return static_cast<std::int64_t>(starts_.size()) - 1; }
  // Makes both files permanent. The document at hand must be closed.
  void commit();

 private:
  void close_item();
  TokenFilePaths paths_;
  std::int64_t vocab_size_;
  int width_;
  std::unique_ptr<AtomicFile> bin_;
  std::int64_t tokens_ = 0, item_tokens_ = 0;
  std::vector<std::int32_t> sizes_;
  std::vector<std::int64_t> starts_{0};
  std::string bytes_;
};

}  // namespace rwkvx

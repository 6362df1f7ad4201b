// Predictions and references from files, streamed: two text files, or one of JSON lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/base/descriptor.h"
#include "rwkvx/base/json_line.h"
#include "rwkvx/base/text_file.h"

namespace rwkvx {

// Lines of a file or pipe of any length, the file perhaps compressed by gzip or zstd, without their
// '\n' or "\r\n", and without a byte order mark at the start. A last line need not end; nothing
// behind the last '\n' is no line.
class LineReader {
 public:
  // Throws FileError where the file cannot be read, DataError where it begins like no text.
  explicit LineReader(std::filesystem::path path);
  // Appends the next line to `line`; false at the end.
  bool append(std::string& line);
  bool skip();
  std::uint64_t lines() const { return lines_; }       // read so far
  std::uint64_t bytes_read() const { return bytes_; }  // of the file
  std::uint64_t size() const { return size_; }         // of the file, 0 where that is not known
  const std::filesystem::path& path() const { return path_; }

 private:
  template <class Use>
  bool next(const Use& use);
  bool fill();
  std::filesystem::path path_;
  std::shared_ptr<const TextFile> text_;  // of a file, not of a pipe
  Descriptor file_;
  std::uint64_t lines_ = 0, bytes_ = 0, size_ = 0;
  std::string buffer_;
  std::size_t begin_ = 0, end_ = 0;
};

// One item: views that stay valid as long as what they were parsed from and by.
struct TextPair {
  std::uint64_t line = 0;   // in the file, from 1
  std::string_view id;      // as JSON, empty where none was given
  std::string_view prompt;  // empty where none was asked for or given
  std::string_view prediction;
  std::vector<std::string_view> references;
};

// Consecutive lines of a source, still as they were written.
struct PairBatch {
  struct Item {
    std::uint64_t line;
    std::size_t begin, middle, end;  // [begin, middle) prediction or JSON, [middle, end) reference
  };
  std::string bytes;
  std::vector<Item> items;
  void clear() {
    bytes.clear();
    items.clear();
  }
};

struct PairFields {
  std::string prediction = "prediction", reference = "reference";
  std::string prompt{};  // empty: not looked at; samples may be without
};

// Where pairs come from.
class PairSource {
 public:
  virtual ~PairSource() = default;
  // Replaces `batch` with the next lines; false where there are no more. Throws DataError, at the
  // end, where the source was empty or its files have different numbers of lines.
  virtual bool next(PairBatch& batch) = 0;
  // Turns an item of a batch into a pair. May be called from several threads at once, each with
  // its own scratch. Throws DataError naming file, line and field.
  struct Scratch {
    JsonLine json;
    std::string room;
    std::vector<std::string_view> items;
  };
  virtual void parse(const PairBatch& batch, const PairBatch::Item& item, Scratch& scratch,
                     TextPair& pair) const = 0;
  virtual std::uint64_t bytes_read() const = 0;
  virtual std::uint64_t size() const = 0;  // bytes altogether, 0 where not known
  virtual std::string name() const = 0;
};

// Item k is line k of both files.
std::unique_ptr<PairSource> pairs_from_texts(const std::filesystem::path& predictions,
                                             const std::filesystem::path& references);
// One object a line with a string as prediction and a string or an array of strings as reference;
// `id` (a string or a number) may be there, blank lines are passed over.
std::unique_ptr<PairSource> pairs_from_json(const std::filesystem::path& path,
                                            const PairFields& fields = {});

}  // namespace rwkvx

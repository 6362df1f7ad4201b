// Text files as people have them: plain, compressed, with a byte order mark, or no text at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "rwkvx/base/descriptor.h"
#include "rwkvx/base/input.h"

namespace rwkvx {

inline constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// A text that can be opened and mapped any number of times. "-" is standard input; pipes and
// devices are spooled (Input), and files compressed by gzip or zstd, told by their content, are
// decompressed into a temporary file that has no name. A byte order mark at the beginning is left
// to the reader, who drops it.
class TextFile {
 public:
  // Throws DataError for what begins like another kind of file (file_kind.h), FileError where it
  // cannot be read, Interrupted where a signal came while it was copied.
  explicit TextFile(const std::string& name);
  TextFile(const TextFile&) = delete;
  TextFile& operator=(const TextFile&) = delete;

  // What messages call it: the name as given, "standard input" for "-".
  const std::string& name() const { return input_.name(); }
  // Opens the text, decompressed.
  const std::filesystem::path& path() const { return path_; }
  // The text as it was named: the compressed file, or the copy of a pipe.
  const std::filesystem::path& source() const { return input_.path(); }
  // Why these are no documents to train on or to measure, "" where they are: NUL bytes, a name that
  // stands for something else, JSON that is not JSON lines.
  const std::string& problem() const { return problem_; }
  // Whether each line is a JSON object: by the ending .jsonl or .ndjson; for .json and for names
  // without an ending, such as a pipe's, by the first line.
  bool json_lines() const { return json_lines_; }
  bool compressed() const { return static_cast<bool>(spool_); }
  // Whether the text begins with a byte order mark.
  bool marked() const { return marked_; }

 private:
  void look(const std::string& bare_name);
  Input input_;
  Descriptor spool_;
  std::filesystem::path path_;
  std::string problem_;
  bool json_lines_ = false, marked_ = false;
};

// The documents of this name; DataError where it has a problem(). What was copied from a pipe, or
// decompressed not long ago, is not copied again as long as the file is the same.
std::shared_ptr<const TextFile> open_text(const std::string& name);
// The same for lines of text that may hold anything.
std::shared_ptr<const TextFile> open_lines(const std::string& name);

}  // namespace rwkvx

// Zip archives of stored entries, as torch.save writes them; nothing in the file is trusted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_map>

namespace rwkvx {

// Reads little-endian numbers and stretches of bytes one after the other; false at the end.
class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : bytes_(bytes) {}
  std::size_t position() const { return position_; }
  std::size_t left() const { return bytes_.size() - position_; }

  template <class Number>
  bool read(Number& number) {
    if (left() < sizeof(Number)) return false;
    std::memcpy(&number, bytes_.data() + position_, sizeof(Number));
    position_ += sizeof(Number);
    return true;
  }
  bool read(std::string_view& text, std::uint64_t count) {
    if (left() < count) return false;
    text = bytes_.substr(position_, count);
    position_ += count;
    return true;
  }
  bool skip(std::uint64_t count) {
    std::string_view ignored;
    return read(ignored, count);
  }
  // Up to, and past, the next line break.
  bool read_line(std::string_view& text) {
    const auto end = bytes_.find('\n', position_);
    if (end == std::string_view::npos) return false;
    text = bytes_.substr(position_, end - position_);
    position_ = end + 1;
    return true;
  }

 private:
  std::string_view bytes_;
  std::size_t position_ = 0;
};

// The stored entries of a zip file, found through its central directory. `where` names the file in
// messages; what cannot be read throws CheckpointError.
class ZipFile {
 public:
  ZipFile(std::string where, std::string_view bytes);

  const std::unordered_map<std::string, std::string_view>& entries() const { return entries_; }
  // The entry's bytes; throws where there is none of this name.
  std::string_view at(const std::string& name) const;

 private:
  struct Directory {
    std::uint64_t offset, size, count;
  };
  [[noreturn]] void fail(const std::string& reason) const;
  template <class Number>
  Number number_at(std::uint64_t offset) const;
  Directory find_directory() const;
  void read_entry(Cursor& cursor);

  std::string where_;
  std::string_view bytes_;
  std::unordered_map<std::string, std::string_view> entries_;
};

}  // namespace rwkvx

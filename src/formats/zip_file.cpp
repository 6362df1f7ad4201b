#include "formats/zip_file.h"

#include <algorithm>
#include <utility>

#include "formats/format.h"
#include "rwkvx/base/error.h"

namespace rwkvx {
namespace {

constexpr std::uint32_t kEnd = 0x06054b50, kEnd64 = 0x06064b50, kLocator64 = 0x07064b50,
                        kCentral = 0x02014b50, kLocal = 0x04034b50;
constexpr std::size_t kEndBytes = 22, kEnd64Bytes = 56, kLocator64Bytes = 20, kCentralBytes = 46;

// Replaces what does not fit 32 bits by the zip64 extra field's values, which come in this order.
bool read_wide(std::string_view extra, std::uint64_t& size, std::uint64_t& stored,
               std::uint64_t& offset) {
  constexpr std::uint32_t kElsewhere = 0xffffffff;
  Cursor fields(extra);
  while (fields.left() >= 4) {
    std::uint16_t id = 0, count = 0;
    std::string_view content;
    if (!fields.read(id) || !fields.read(count) || !fields.read(content, count)) return false;
    if (id != 1) continue;
    Cursor wide(content);
    for (auto* value : {&size, &stored, &offset})
      if (*value == kElsewhere && !wide.read(*value)) return false;
    return true;
  }
  return size != kElsewhere && stored != kElsewhere && offset != kElsewhere;
}

}  // namespace

ZipFile::ZipFile(std::string where, std::string_view bytes)
    : where_(std::move(where)), bytes_(bytes) {
  const auto [offset, size, count] = find_directory();
  Cursor cursor(bytes_.substr(offset, size));
  for (std::uint64_t i = 0; i < count; ++i) read_entry(cursor);
}

std::string_view ZipFile::at(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) fail("the archive has no " + shown(name));
  return found->second;
}

void ZipFile::fail(const std::string& reason) const { throw CheckpointError(where_, reason); }

template <class Number>
Number ZipFile::number_at(std::uint64_t offset) const {
  Number number{};
  if (offset > bytes_.size() || !Cursor(bytes_.substr(offset)).read(number))
    fail("the zip archive points outside the file: it is damaged");
  return number;
}

ZipFile::Directory ZipFile::find_directory() const {
  // The end record is last but for a comment of at most 65535 bytes.
  constexpr std::size_t kMaxComment = 65535;
  if (bytes_.size() < kEndBytes) fail("is too short for a zip archive: it is cut off");
  std::size_t end = bytes_.size() - kEndBytes;
  const std::size_t first = end - std::min(end, kMaxComment);
  while (number_at<std::uint32_t>(end) != kEnd ||
         end + kEndBytes + number_at<std::uint16_t>(end + 20) != bytes_.size()) {
    if (end == first) fail("the zip archive has no directory: it is cut off or damaged");
    --end;
  }
  Directory found{number_at<std::uint32_t>(end + 16), number_at<std::uint32_t>(end + 12),
                  number_at<std::uint16_t>(end + 10)};
  std::uint64_t limit = end;
  if (end >= kLocator64Bytes && number_at<std::uint32_t>(end - kLocator64Bytes) == kLocator64) {
    const auto record = number_at<std::uint64_t>(end - kLocator64Bytes + 8);
    if (record > end || end - record < kEnd64Bytes || number_at<std::uint32_t>(record) != kEnd64)
      fail("the zip archive's directory is damaged");
    found = {number_at<std::uint64_t>(record + 48), number_at<std::uint64_t>(record + 40),
             number_at<std::uint64_t>(record + 32)};
    limit = record;
  }
  if (found.offset > limit || found.size > limit - found.offset ||
      found.count > found.size / kCentralBytes)
    fail("the zip archive's directory does not fit into the file: it is damaged");
  return found;
}

void ZipFile::read_entry(Cursor& cursor) {
  std::uint32_t signature = 0, crc = 0, small_stored = 0, small_size = 0, attributes = 0,
                small_offset = 0;
  std::uint16_t versions = 0, flags = 0, method = 0, name_bytes = 0, extra_bytes = 0,
                comment_bytes = 0, disk = 0, internal = 0;
  std::string_view name, extra;
  const bool whole = cursor.read(signature) && signature == kCentral && cursor.read(versions) &&
                     cursor.skip(2) && cursor.read(flags) && cursor.read(method) &&
                     cursor.skip(4) && cursor.read(crc) && cursor.read(small_stored) &&
                     cursor.read(small_size) && cursor.read(name_bytes) &&
                     cursor.read(extra_bytes) && cursor.read(comment_bytes) && cursor.read(disk) &&
                     cursor.read(internal) && cursor.read(attributes) &&
                     cursor.read(small_offset) && cursor.read(name, name_bytes) &&
                     cursor.read(extra, extra_bytes) && cursor.skip(comment_bytes);
  if (!whole) fail("the zip archive's directory is damaged");
  std::uint64_t stored = small_stored, size = small_size, offset = small_offset;
  if (!read_wide(extra, size, stored, offset))
    fail(shown(name) + " has a damaged entry in the archive");
  if (method != 0)
    fail(shown(name) + " is compressed, expected the stored entries that torch.save writes");
  if ((flags & 1) != 0) fail(shown(name) + " is encrypted");
  // The local header repeats the name, perhaps with other extra fields.
  if (number_at<std::uint32_t>(offset) != kLocal)
    fail(shown(name) + " is not where the archive's directory says: the file is damaged");
  const std::uint64_t start =
      offset + 30 + number_at<std::uint16_t>(offset + 26) + number_at<std::uint16_t>(offset + 28);
  if (stored != size || start > bytes_.size() || size > bytes_.size() - start)
    fail(shown(name) + " does not fit into the file: it is cut off or damaged");
  if (!entries_.emplace(std::string(name), bytes_.substr(start, size)).second)
    fail("the archive has " + shown(name) + " twice");
}

}  // namespace rwkvx

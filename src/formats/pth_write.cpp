#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "formats/format.h"
#include "formats/pickle.h"
#include "formats/write.h"
#include "rwkvx/base/error.h"
#include "rwkvx/formats/pth.h"

namespace rwkvx {
namespace {

constexpr std::uint64_t kAlignment = 64;
constexpr std::uint32_t kWide = 0xffffffff;  // the number stands in the zip64 extra field
constexpr std::uint16_t kVersion = 45;       // of zip64

std::uint32_t checksum(std::string_view bytes) {
  constexpr std::size_t kPiece = 1 << 30;  // zlib counts in 32 bits
  uLong sum = ::crc32(0, nullptr, 0);
  for (; !bytes.empty(); bytes.remove_prefix(std::min(kPiece, bytes.size())))
    sum = ::crc32(sum, reinterpret_cast<const Bytef*>(bytes.data()),
                  static_cast<uInt>(std::min(kPiece, bytes.size())));
  return static_cast<std::uint32_t>(sum);
}

// A zip archive of stored entries, written in one go.
class ZipWriter {
 public:
  explicit ZipWriter(AtomicFile& file) : file_(file) {}

  void add(const std::string& name, std::string_view bytes) {
    const auto offset = file_.size();
    const auto crc = checksum(bytes);
    const bool wide = bytes.size() >= kWide;
    std::string extra;
    if (wide) {
      append_number<std::uint16_t>(extra, 1);
      append_number<std::uint16_t>(extra, 16);
      append_number<std::uint64_t>(extra, bytes.size());
      append_number<std::uint64_t>(extra, bytes.size());
    }
    // Padding in an extra field of its own, of the id that PyTorch gives it.
    const auto end = offset + 30 + name.size() + extra.size() + 4;
    const auto padding = (kAlignment - end % kAlignment) % kAlignment;
    extra += "FB";
    append_number(extra, static_cast<std::uint16_t>(padding));
    extra.append(padding, 'Z');

    std::string header;
    append_number<std::uint32_t>(header, 0x04034b50);
    append_common(header, crc, bytes.size(), name, extra.size());
    header += name + extra;
    file_.write(header);
    write_pieces(file_, std::as_bytes(std::span(bytes)));
    append_directory(crc, bytes.size(), offset, name);
  }

  void finish() {
    const auto offset = file_.size();
    const std::uint64_t size = directory_.size();
    file_.write(directory_);
    std::string end;
    constexpr std::uint16_t kMany = 0xffff;
    const bool wide = count_ >= kMany || offset >= kWide || size >= kWide;
    if (wide) {
      append_number<std::uint32_t>(end, 0x06064b50);
      append_number<std::uint64_t>(end, 44);
      append_number(end, kVersion);
      append_number(end, kVersion);
      append_number<std::uint64_t>(end, 0);  // disks
      append_number(end, count_);
      append_number(end, count_);
      append_number(end, size);
      append_number(end, offset);
      append_number<std::uint32_t>(end, 0x07064b50);
      append_number<std::uint32_t>(end, 0);
      append_number(end, offset + size);
      append_number<std::uint32_t>(end, 1);
    }
    append_number<std::uint32_t>(end, 0x06054b50);
    append_number<std::uint32_t>(end, 0);  // disks
    const auto count = wide ? kMany : static_cast<std::uint16_t>(count_);
    append_number(end, count);
    append_number(end, count);
    append_number(end, wide ? kWide : static_cast<std::uint32_t>(size));
    append_number(end, wide ? kWide : static_cast<std::uint32_t>(offset));
    append_number<std::uint16_t>(end, 0);
    file_.write(end);
  }

 private:
  // From the version that is needed to the lengths of name and extra field.
  static void append_common(std::string& out, std::uint32_t crc, std::uint64_t size,
                            const std::string& name, std::size_t extra) {
    append_number<std::uint16_t>(out, size >= kWide ? kVersion : 0);
    append_number<std::uint32_t>(out, 0);  // flags; stored
    append_number<std::uint32_t>(out, 0);  // time and date
    append_number(out, crc);
    const auto narrow = size >= kWide ? kWide : static_cast<std::uint32_t>(size);
    append_number(out, narrow);
    append_number(out, narrow);
    append_number(out, static_cast<std::uint16_t>(name.size()));
    append_number(out, static_cast<std::uint16_t>(extra));
  }

  void append_directory(std::uint32_t crc, std::uint64_t size, std::uint64_t offset,
                        const std::string& name) {
    std::string wide;
    if (size >= kWide) {
      append_number(wide, size);
      append_number(wide, size);
    }
    if (offset >= kWide) append_number(wide, offset);
    std::string extra;
    if (!wide.empty()) {
      append_number<std::uint16_t>(extra, 1);
      append_number(extra, static_cast<std::uint16_t>(wide.size()));
      extra += wide;
    }
    append_number<std::uint32_t>(directory_, 0x02014b50);
    append_number<std::uint16_t>(directory_, wide.empty() ? 0 : kVersion);
    append_common(directory_, crc, size, name, extra.size());
    append_number<std::uint16_t>(directory_, 0);  // comment
    append_number<std::uint32_t>(directory_, 0);  // disk, attributes
    append_number<std::uint32_t>(directory_, 0);
    append_number(directory_, offset >= kWide ? kWide : static_cast<std::uint32_t>(offset));
    directory_ += name + extra;
    ++count_;
  }

  AtomicFile& file_;
  std::string directory_;
  std::uint64_t count_ = 0;
};

// The pickle of the dict. Globals that occur again are remembered at these places.
class Pickler {
 public:
  explicit Pickler(const std::string& where) : where_(where) {}

  std::string run(std::span<const PendingTensor> tensors) {
    out_ = "\x80\x02";
    ordered_dict();
    out_ += '(';
    std::size_t key = 0;
    for (const auto& tensor : tensors) {
      text(tensor.name);
      put(tensor, key++);
    }
    return out_ + "u.";
  }

 private:
  void text(std::string_view value) {
    out_ += 'X';
    append_number(out_, static_cast<std::uint32_t>(value.size()));
    out_ += value;
  }
  void integer(std::int64_t value) {
    if (value >= 0 && value < 256) {
      out_ += 'K';
      out_ += static_cast<char>(value);
    } else if (value >= 0 && value <= std::numeric_limits<std::int32_t>::max()) {
      out_ += 'J';
      append_number(out_, static_cast<std::int32_t>(value));
    } else {
      out_ += "\x8a\x08";
      append_number(out_, value);
    }
  }
  void integers(std::span<const std::int64_t> values) {
    out_ += '(';
    for (const auto value : values) integer(value);
    out_ += 't';
  }
  void global(std::string_view module, std::string_view name) {
    const auto known = std::find(globals_.begin(), globals_.end(), name);
    const auto place = static_cast<char>(known - globals_.begin());
    if (known != globals_.end()) {
      (out_ += 'h') += place;
      return;
    }
    ((((out_ += 'c') += module) += '\n') += name) += '\n';
    (out_ += 'q') += place;
    globals_.emplace_back(name);
  }
  void ordered_dict() {
    global("collections", "OrderedDict");
    out_ += ")R";
  }

  void put(const PendingTensor& tensor, std::size_t key) {
    const auto storage = storage_class(tensor.dtype);
    if (storage.empty())
      throw CheckpointError(
          where_ + ": " + shown(tensor.name),
          "is of type " + std::string(dtype_name(tensor.dtype)) + ", which .pth files do not hold");
    std::vector<std::int64_t> strides(tensor.shape.size());
    std::int64_t count = 1;
    for (std::size_t d = strides.size(); d-- > 0;) {
      strides[d] = count;
      count *= std::max<std::int64_t>(tensor.shape[d], 1);
    }
    global("torch._utils", "_rebuild_tensor_v2");
    out_ += "((";
    text("storage");
    global("torch", storage);
    text(std::to_string(key));
    text("cpu");
    integer(static_cast<std::int64_t>(*byte_count(tensor.dtype, tensor.shape) /
                                      dtype_size(tensor.dtype)));
    out_ += "tQK";
    out_ += '\0';
    integers(tensor.shape);
    integers(strides);
    out_ += '\x89';
    ordered_dict();
    out_ += "tR";
  }

  std::string where_, out_;
  std::vector<std::string> globals_;  // fewer than 256
};

}  // namespace

void write_pth(const std::filesystem::path& path, std::span<const PendingTensor> tensors) {
  const auto where = path.string();
  check_pending(where, tensors);
  const auto pickle = Pickler(where).run(tensors);
  AtomicFile file(path);
  ZipWriter zip(file);
  const std::string folder = "archive/";
  zip.add(folder + "data.pkl", pickle);
  zip.add(folder + "byteorder", "little");
  std::size_t key = 0;
  std::vector<std::byte> room;
  for (const auto& tensor : tensors)
    zip.add(folder + "data/" + std::to_string(key++), as_text(bytes_of(where, tensor, room)));
  zip.add(folder + "version", "3\n");
  zip.finish();
  file.commit();
}

}  // namespace rwkvx

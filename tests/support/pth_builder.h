// .pth files put together by hand: a zip archive without compression and the pickle of a state
// dict.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace rwkvx::test {

template <class Number>
std::string little(Number number) {
  std::string bytes(sizeof(Number), '\0');
  for (auto& byte : bytes) {
    byte = static_cast<char>(number & 0xff);
    number = static_cast<Number>(static_cast<std::uint64_t>(number) >> 8);
  }
  return bytes;
}

inline std::string le16(std::uint64_t x) { return little(static_cast<std::uint16_t>(x)); }
inline std::string le32(std::uint64_t x) { return little(static_cast<std::uint32_t>(x)); }
inline std::string le64(std::uint64_t x) { return little(x); }

// A zip archive of stored entries. The checksums are left 0: no reader here looks at them.
struct ZipBuilder {
  std::vector<std::pair<std::string, std::string>> entries;
  std::uint16_t method = 0;
  bool wide = false;  // sizes, offsets and the directory in zip64 form
  std::string comment;

  std::string build() const {
    std::string out, directory;
    for (const auto& [name, bytes] : entries) {
      const auto offset = out.size();
      out += "PK\x03\x04" + le16(45) + le16(0) + le16(method) + std::string(8, '\0') +
             le32(bytes.size()) + le32(bytes.size()) + le16(name.size()) + le16(3) + name + "pad" +
             bytes;
      const auto extra =
          wide ? le16(1) + le16(24) + le64(bytes.size()) + le64(bytes.size()) + le64(offset)
               : std::string();
      const auto narrow = [&](std::uint64_t x) { return le32(wide ? 0xffffffff : x); };
      directory += "PK\x01\x02" + le16(45) + le16(45) + le16(0) + le16(method) +
                   std::string(8, '\0') + narrow(bytes.size()) + narrow(bytes.size()) +
                   le16(name.size()) + le16(extra.size()) + le16(0) + le16(0) + le16(0) + le32(0) +
                   narrow(offset) + name + extra;
    }
    const auto start = out.size(), count = entries.size();
    out += directory;
    if (wide) {
      const auto record = out.size();
      out += "PK\x06\x06" + le64(44) + le16(45) + le16(45) + le32(0) + le32(0) + le64(count) +
             le64(count) + le64(directory.size()) + le64(start);
      out += "PK\x06\x07" + le32(0) + le64(record) + le32(1);
    }
    return out + "PK\x05\x06" + le16(0) + le16(0) + le16(wide ? 0xffff : count) +
           le16(wide ? 0xffff : count) + le32(wide ? 0xffffffff : directory.size()) +
           le32(wide ? 0xffffffff : start) + le16(comment.size()) + comment;
  }
};

// Pieces of a pickle of protocol 2.
namespace pickle {

inline std::string text(const std::string& x) { return "X" + le32(x.size()) + x; }
inline std::string integer(std::int64_t x) {
  return "\x8a\x08" + little(static_cast<std::uint64_t>(x));
}
inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string tuple(const std::vector<std::int64_t>& values) {
  std::string out = "(";
  for (const auto value : values) out += integer(value);
  return out + "t";
}
inline std::string storage(const std::string& kind, const std::string& key, std::int64_t count) {
  return "(" + text("storage") + global("torch", kind) + text(key) + text("cpu") + integer(count) +
         "tQ";
}
inline std::string tensor(const std::string& storage, std::int64_t offset,
                          const std::vector<std::int64_t>& shape,
                          const std::vector<std::int64_t>& strides) {
  return global("torch._utils", "_rebuild_tensor_v2") + "(" + storage + integer(offset) +
         tuple(shape) + tuple(strides) + "\x89" + global("collections", "OrderedDict") + ")RtR";
}
// A dict of (key, pickled value).
inline std::string dict(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string out = "\x80\x02}(";
  for (const auto& [key, value] : items) out += text(key) + value;
  return out + "u.";
}

}  // namespace pickle

// A state dict whose tensors are contiguous float32 with the values first, first + 1, …
class PthBuilder {
 public:
  void add(const std::string& name, const std::vector<std::int64_t>& shape, float first = 0) {
    std::int64_t count = 1;
    std::vector<std::int64_t> strides(shape.size());
    for (std::size_t d = shape.size(); d-- > 0;) {
      strides[d] = count;
      count *= shape[d];
    }
    std::vector<float> values(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = first + static_cast<float>(i);
    const auto key = add_storage(
        std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)));
    items.emplace_back(
        name, pickle::tensor(pickle::storage("FloatStorage", key, count), 0, shape, strides));
  }
  // Returns the storage's key.
  std::string add_storage(const std::string& bytes) {
    const auto key = std::to_string(storages_.size());
    storages_.emplace_back("archive/data/" + key, bytes);
    return key;
  }
  ZipBuilder zip(const std::string& pickled) const {
    ZipBuilder zip;
    zip.entries = storages_;
    zip.entries.insert(zip.entries.begin(), {"archive/data.pkl", pickled});
    zip.entries.emplace_back("archive/byteorder", "little");
    return zip;
  }
  std::string build() const { return zip(pickle::dict(items)).build(); }

  std::vector<std::pair<std::string, std::string>> items;

 private:
  std::vector<std::pair<std::string, std::string>> storages_;
};

}  // namespace rwkvx::test

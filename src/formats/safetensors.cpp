#include "rwkvx/formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>
#include <utility>

#include "formats/format.h"
#include "formats/write.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/file_kind.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"

namespace rwkvx {
namespace {

constexpr std::uint64_t kLengthBytes = 8;  // the header's length, before the header
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr std::uint64_t kAlignment = 64;
constexpr char kMetadataKey[] = "__metadata__";
constexpr char kChecksumKey[] = "checksum";
constexpr char kChecksumPrefix[] = "checksum.";

// What one header entry says.
struct Entry {
  std::string name;
  std::optional<DType> dtype;
  bool has_shape = false;
  std::vector<std::int64_t> shape;
  bool has_offsets = false;
  std::vector<std::uint64_t> offsets;  // [begin, end) in the data
};

// Reads the header's JSON as a stream of events: nothing is built but entries and metadata, so the
// memory used is of the order of the header, however deep it nests.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;
  std::string tensor, problem;  // whose fault and what, once a callback has returned false

  bool null() override { return unexpected("null"); }
  bool boolean(bool value) override { return unexpected(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override {
    return unexpected(std::to_string(value));  // negative: others come as unsigned
  }
  bool number_float(number_float_t, const string_t& text) override { return unexpected(text); }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::kShape) {
      if (value > std::numeric_limits<std::int64_t>::max() ||
          entries.back().shape.size() >= kMaxDimensions)
        return unexpected(std::to_string(value));
      entries.back().shape.push_back(static_cast<std::int64_t>(value));
      return true;
    }
    if (place_ == Place::kOffsets && entries.back().offsets.size() < 2) {
      entries.back().offsets.push_back(value);
      return true;
    }
    return unexpected(std::to_string(value));
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) {
      metadata[key_] = value;
      return true;
    }
    if (place_ != Place::kEntry || key_ != "dtype") return unexpected('"' + shown(value) + '"');
    entries.back().dtype = dtype_from(value);
    if (entries.back().dtype) return true;
    if (value.starts_with("F8_") || value.starts_with("F4") || value.starts_with("F6_"))
      return complain("holds numbers of type " + shown(value) +
                      ", which is not read; convert the weights to BF16, F16 or F32 first");
    return complain("dtype \"" + shown(value) + "\" is unknown, expected one of" + dtype_names());
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kTop;
      return true;
    }
    if (place_ != Place::kTop) return unexpected("an object");
    if (tensor.empty()) {
      place_ = Place::kMetadata;
    } else {
      place_ = Place::kEntry;
      entries.emplace_back().name = tensor;
    }
    return true;
  }

  bool key(string_t& value) override {
    key_ = value;
    if (place_ == Place::kTop) {
      const bool is_metadata = value == kMetadataKey;
      tensor = is_metadata ? "" : value;
      if (!is_metadata && value.empty()) return complain("a tensor has no name");
      if (!names_.insert(value).second) return complain("the header names it twice");
      return true;
    }
    if (place_ == Place::kMetadata) {
      if (metadata.contains(value))
        return complain("the metadata names \"" + shown(value) + "\" twice");
      return true;
    }
    const auto& entry = entries.back();
    if ((value == "dtype" && entry.dtype) || (value == "shape" && entry.has_shape) ||
        (value == "data_offsets" && entry.has_offsets))
      return complain("has \"" + value + "\" twice");
    if (value == "dtype" || value == "shape" || value == "data_offsets") return true;
    return complain("unknown key \"" + shown(value) + "\", expected dtype, shape and data_offsets");
  }

  bool end_object() override {
    if (place_ == Place::kEntry) {
      const auto& entry = entries.back();
      if (!entry.dtype || !entry.has_shape || !entry.has_offsets)
        return complain("lacks dtype, shape or data_offsets");
      if (entry.offsets.size() != 2) return complain("data_offsets must be two numbers");
    }
    place_ = place_ == Place::kTop ? Place::kEnd : Place::kTop;
    tensor.clear();
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::kEntry || key_ == "dtype") return unexpected("a list");
    if (key_ == "shape") {
      place_ = Place::kShape;
      entries.back().has_shape = true;
    } else {
      place_ = Place::kOffsets;
      entries.back().has_offsets = true;
    }
    return true;
  }

  bool end_array() override {
    place_ = Place::kEntry;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception&) override {
    tensor.clear();
    return complain("the header is not valid JSON at its byte " + std::to_string(position));
  }

 private:
  enum class Place { kStart, kTop, kMetadata, kEntry, kShape, kOffsets, kEnd };

  bool complain(std::string what) {
    problem = std::move(what);
    return false;
  }

  bool unexpected(const std::string& what) {
    switch (place_) {
      case Place::kMetadata:
        return complain("metadata \"" + shown(key_) + "\" must be a string, got " + what);
      case Place::kShape:
        return complain("shape must be at most " + std::to_string(kMaxDimensions) +
                        " sizes of 0 or more, got " + what);
      case Place::kOffsets:
        return complain("data_offsets must be two numbers of 0 or more, got " + what);
      case Place::kEntry:
        return complain(key_ + " cannot be " + what);
      default:
        return complain("the header must be an object of objects, got " + what);
    }
  }

  Place place_ = Place::kStart;
  std::string key_;
  std::unordered_set<std::string> names_;
};

// One hash over everything in the header that matters, for the metadata key "checksum".
template <class Tensors>
std::string header_hash(const Tensors& tensors,
                        const std::map<std::string, std::string>& metadata) {
  Hasher hasher;
  const auto add = [&](std::string_view text) {
    hasher.add(text);
    hasher.add(std::string_view("\0", 1));
  };
  for (const auto& tensor : tensors) {
    add(tensor.name);
    add(dtype_name(tensor.dtype));
    add(shape_text(tensor.shape));
  }
  for (const auto& [key, value] : metadata) {
    if (key == kChecksumKey) continue;
    add(key);
    add(value);
  }
  return hasher.hex();
}

class SafetensorsFile : public TensorFile::Contents {
 public:
  explicit SafetensorsFile(const std::filesystem::path& from) : file_(from) {
    path = from;
    stored_bytes = file_.bytes().size();
    parse();
  }

  bool has_checksums() const override;
  void verify() const override;

 private:
  [[noreturn]] void fail(const std::string& tensor, const std::string& reason) const {
    throw CheckpointError(tensor.empty() ? path.string() : path.string() + ": " + shown(tensor),
                          reason);
  }
  void parse();

  MappedFile file_;
};

void SafetensorsFile::parse() {
  const auto bytes = file_.bytes();
  if (bytes.size() < kLengthBytes)
    fail("", "expected a safetensors file, got " + std::to_string(bytes.size()) +
                 " bytes: it is cut off or of another kind");
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), kLengthBytes);
  const std::uint64_t rest = bytes.size() - kLengthBytes;
  if (header_bytes > kMaxHeaderBytes)
    fail("", "expected a safetensors header of at most " + std::to_string(kMaxHeaderBytes) +
                 " bytes, got a length of " + std::to_string(header_bytes) +
                 ": it is damaged or of another kind");
  if (header_bytes > rest)
    fail("", "the header should have " + std::to_string(header_bytes) + " bytes, but only " +
                 std::to_string(rest) + " follow: the file is cut off or of another kind");
  const auto header = as_text(bytes.subspan(kLengthBytes, header_bytes));
  const auto data = bytes.subspan(kLengthBytes + header_bytes);
  if (!header.starts_with('{'))
    fail("", "the header must begin with '{': the file is damaged or of another kind");

  HeaderReader reader;
  if (!nlohmann::json::sax_parse(header, &reader)) fail(reader.tensor, reader.problem);
  metadata = std::move(reader.metadata);
  auto& entries = reader.entries;
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.offsets < b.offsets; });
  std::uint64_t expected = 0;
  tensors.reserve(entries.size());
  for (auto& entry : entries) {
    const auto begin = entry.offsets[0], end = entry.offsets[1];
    const auto range = "bytes " + std::to_string(begin) + " to " + std::to_string(end);
    if (begin > end || end > data.size())
      fail(entry.name, "should lie in " + range + " of the data, which has " +
                           std::to_string(data.size()) + ": the file is cut off or damaged");
    if (begin != expected)
      fail(entry.name, "lies in " + range + " of the data, expected it to begin at " +
                           std::to_string(expected) + ", where the one before ends");
    const auto wanted = byte_count(*entry.dtype, entry.shape);
    if (!wanted || *wanted != end - begin)
      fail(entry.name, "shape " + shape_text(entry.shape) + " of " +
                           std::string(dtype_name(*entry.dtype)) + " needs " +
                           (wanted ? std::to_string(*wanted) : "too many") + " bytes, got " +
                           std::to_string(end - begin));
    expected = end;
    tensors.push_back({std::move(entry.name), *entry.dtype, std::move(entry.shape),
                       data.subspan(begin, end - begin)});
  }
  if (expected != data.size())
    fail("", "the tensors end at byte " + std::to_string(expected) + " of the data, which has " +
                 std::to_string(data.size()) + ": the file is damaged");
}

bool SafetensorsFile::has_checksums() const {
  const auto first = metadata.lower_bound(kChecksumPrefix);
  return metadata.contains(kChecksumKey) ||
         (first != metadata.end() && first->first.starts_with(kChecksumPrefix));
}

void SafetensorsFile::verify() const {
  if (!has_checksums()) return;
  const auto check = [&](const std::string& what, const std::string& key,
                         const std::string& actual) {
    const auto stored = metadata.find(key);
    if (stored == metadata.end()) fail(what, "its checksum is missing: the file is damaged");
    if (stored->second != actual)
      fail(what, "checksum " + actual + " differs from the stored " + shown(stored->second) +
                     ": the file is damaged");
  };
  check("header", kChecksumKey, header_hash(tensors, metadata));
  for (const auto& tensor : tensors)
    check(tensor.name, kChecksumPrefix + tensor.name, hash_bytes(as_text(tensor.bytes)));
}

std::shared_ptr<const TensorFile::Contents> read(const std::filesystem::path& path) {
  return std::make_shared<SafetensorsFile>(path);
}

}  // namespace

extern const Format kSafetensors{
    "a .safetensors file",
    [](std::string_view beginning) { return file_kind(beginning) == kSafetensorsKind; }, read};

TensorFile read_safetensors(const std::filesystem::path& path) { return TensorFile(read(path)); }

void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                       const std::map<std::string, std::string>& metadata) {
  stream_safetensors(path, pending(tensors), metadata);
}

void stream_safetensors(const std::filesystem::path& path, std::span<const PendingTensor> tensors,
                        const std::map<std::string, std::string>& metadata) {
  const auto fail = [&](const std::string& name, const std::string& reason) {
    throw CheckpointError(path.string() + ": " + shown(name), reason);
  };
  // Larger elements first: then each tensor begins at a multiple of its element size.
  std::vector<PendingTensor> ordered(tensors.begin(), tensors.end());
  std::stable_sort(ordered.begin(), ordered.end(), [](const auto& a, const auto& b) {
    return dtype_size(a.dtype) > dtype_size(b.dtype);
  });

  auto checked = metadata;
  for (const auto& [key, value] : metadata)
    if (key == kChecksumKey || key.starts_with(kChecksumPrefix))
      fail(key, "metadata of this name is written by rwkvx itself");
  check_pending(path.string(), ordered);
  std::vector<std::byte> room;
  for (const auto& tensor : ordered) {
    if (tensor.name == kMetadataKey) fail(tensor.name, "a tensor cannot have this name");
    checked[kChecksumPrefix + tensor.name] =
        hash_bytes(as_text(bytes_of(path.string(), tensor, room)));
  }
  checked[kChecksumKey] = header_hash(ordered, checked);

  std::string header;
  try {
    header = "{" + nlohmann::json(kMetadataKey).dump() + ":" + nlohmann::json(checked).dump();
    std::uint64_t begin = 0;
    for (const auto& tensor : ordered) {
      const std::uint64_t end = begin + *byte_count(tensor.dtype, tensor.shape);
      const nlohmann::json entry{{"dtype", dtype_name(tensor.dtype)},
                                 {"shape", tensor.shape},
                                 {"data_offsets", {begin, end}}};
      header += "," + nlohmann::json(tensor.name).dump() + ":" + entry.dump();
      begin = end;
    }
    header += "}";
  } catch (const nlohmann::json::exception&) {
    fail("header", "names and metadata must be valid UTF-8");
  }
  const auto unaligned = (kLengthBytes + header.size()) % kAlignment;
  header.append(unaligned == 0 ? 0 : kAlignment - unaligned, ' ');
  if (header.size() > kMaxHeaderBytes)
    fail("header",
         "would have " + std::to_string(header.size()) + " bytes, more than a reader takes");

  AtomicFile file(path);
  const std::uint64_t header_bytes = header.size();
  file.write({reinterpret_cast<const char*>(&header_bytes), kLengthBytes});
  file.write(header);
  for (const auto& tensor : ordered) write_pieces(file, bytes_of(path.string(), tensor, room));
  file.commit();
}

}  // namespace rwkvx

#include "rwkvx/formats/gguf.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <deque>
#include <limits>
#include <optional>
#include <unordered_set>

#include "formats/format.h"
#include "formats/write.h"
#include "formats/zip_file.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"

namespace rwkvx {
namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr std::uint32_t kVersion = 3;
constexpr std::uint64_t kAlignment = 32;
constexpr char kAlignmentKey[] = "general.alignment";
constexpr std::size_t kBlockBytes = 2 + static_cast<std::size_t>(kGgufBlock);  // scale, numbers
constexpr std::uint32_t kGgufDimensions = 4;

// ggml's types of tensors, by their numbers; those without a size are only named.
enum : std::uint32_t { kF32 = 0, kF16 = 1, kQ8_0 = 8, kBF16 = 30 };
std::string type_name(std::uint32_t type) {
  static constexpr std::array<std::string_view, 40> kNames{
      "F32",     "F16",    "Q4_0",    "Q4_1",  "",       "",      "Q5_0",  "Q5_1",
      "Q8_0",    "Q8_1",   "Q2_K",    "Q3_K",  "Q4_K",   "Q5_K",  "Q6_K",  "Q8_K",
      "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS",
      "I8",      "I16",    "I32",     "I64",   "F64",    "IQ1_M", "BF16",  "",
      "",        "",       "TQ1_0",   "TQ2_0", "",       "",      "",      "MXFP4"};
  return type < kNames.size() && !kNames[type].empty() ? std::string(kNames[type])
                                                       : "number " + std::to_string(type);
}

// The types of values in the metadata.
enum class ValueType : std::uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};
constexpr std::array<std::size_t, 13> kValueBytes{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

float half_at(const std::byte* bytes) { return to_float32({"", DType::kF16, {1}, {bytes, 2}})[0]; }

class GgufFile : public TensorFile::Contents {
 public:
  explicit GgufFile(const std::filesystem::path& from) : file_(from), cursor_(file_.text()) {
    path = from;
    stored_bytes = file_.bytes().size();
    parse();
  }

 private:
  [[noreturn]] void fail(const std::string& reason) const {
    throw CheckpointError(path.string(), reason);
  }
  void need(bool read) const {
    if (!read) fail("is cut off within the header of the GGUF file");
  }
  template <class Number>
  Number number() {
    Number value{};
    need(cursor_.read(value));
    return value;
  }
  std::string_view text() {
    std::string_view value;
    need(cursor_.read(value, number<std::uint64_t>()));
    return value;
  }
  void parse();
  void read_value(const std::string& key);
  std::string scalar(ValueType type);
  void read_array(const std::string& key);
  void read_tensors(std::uint64_t count);
  std::span<const std::byte> unpack(std::span<const std::byte> blocks);

  struct Entry {
    std::string name;
    std::vector<std::int64_t> shape;
    std::uint32_t type = 0;
    std::uint64_t offset = 0;
  };

  MappedFile file_;
  Cursor cursor_;
  std::uint64_t alignment_ = kAlignment;
  std::deque<std::vector<float>> own_;  // what was quantized
};

void GgufFile::parse() {
  need(cursor_.skip(kMagic.size()));
  const auto version = number<std::uint32_t>();
  if (version != 2 && version != kVersion)
    fail("expected version 2 or 3 of GGUF, got " + std::to_string(version) +
         (version == __builtin_bswap32(kVersion) ? ", which is a big-endian file" : ""));
  const auto tensor_count = number<std::uint64_t>(), value_count = number<std::uint64_t>();
  // Of the shortest entries: a name's length, dimensions, type and offset; a key's length, a type
  // and a byte.
  if (tensor_count > cursor_.left() / 24 || value_count > cursor_.left() / 13)
    fail("has " + std::to_string(tensor_count) + " tensors and " + std::to_string(value_count) +
         " values, more than the file has room for: it is damaged");
  for (std::uint64_t i = 0; i < value_count; ++i) read_value(std::string(text()));
  const auto alignment = metadata.find(kAlignmentKey);
  if (alignment != metadata.end()) {
    const auto& digits = alignment->second;
    std::from_chars(digits.data(), digits.data() + digits.size(), alignment_);
    if (alignment_ == 0 || alignment_ > 1 << 20 || (alignment_ & (alignment_ - 1)) != 0)
      fail(std::string(kAlignmentKey) + " must be a power of two, got " + shown(digits));
  }
  read_tensors(tensor_count);
}

void GgufFile::read_value(const std::string& key) {
  const auto type = static_cast<ValueType>(number<std::uint32_t>());
  if (metadata.contains(key)) fail("has the key " + shown(key) + " twice");
  if (type == ValueType::kArray) return read_array(key);
  metadata[key] = scalar(type);
}

std::string GgufFile::scalar(ValueType type) {
  switch (type) {
    case ValueType::kU8:
      return std::to_string(number<std::uint8_t>());
    case ValueType::kI8:
      return std::to_string(number<std::int8_t>());
    case ValueType::kU16:
      return std::to_string(number<std::uint16_t>());
    case ValueType::kI16:
      return std::to_string(number<std::int16_t>());
    case ValueType::kU32:
      return std::to_string(number<std::uint32_t>());
    case ValueType::kI32:
      return std::to_string(number<std::int32_t>());
    case ValueType::kF32:
    case ValueType::kF64: {
      std::array<char, 64> digits{};
      const auto end =
          type == ValueType::kF32
              ? std::to_chars(digits.data(), digits.data() + digits.size(), number<float>())
              : std::to_chars(digits.data(), digits.data() + digits.size(), number<double>());
      return std::string(digits.data(), end.ptr);
    }
    case ValueType::kBool:
      return number<std::uint8_t>() != 0 ? "true" : "false";
    case ValueType::kString:
      return std::string(text());
    case ValueType::kU64:
      return std::to_string(number<std::uint64_t>());
    case ValueType::kI64:
      return std::to_string(number<std::int64_t>());
    default:
      fail("has a value of the unknown type " + std::to_string(static_cast<std::uint32_t>(type)) +
           ": it is damaged");
  }
}

// Lists of strings are kept, those of numbers are passed over.
void GgufFile::read_array(const std::string& key) {
  const auto type = number<std::uint32_t>();
  const auto count = number<std::uint64_t>();
  if (type == static_cast<std::uint32_t>(ValueType::kString)) {
    if (count > cursor_.left() / 8) fail(shown(key) + " is longer than the file");
    std::string list;
    for (std::uint64_t i = 0; i < count; ++i) (list += text()) += '\0';
    metadata[key] = std::move(list);
    return;
  }
  if (type >= kValueBytes.size() || kValueBytes[type] == 0)
    fail(shown(key) + " is a list of lists or of an unknown type, which is not read");
  if (count > cursor_.left() / kValueBytes[type]) fail(shown(key) + " is longer than the file");
  need(cursor_.skip(count * kValueBytes[type]));
}

std::span<const std::byte> GgufFile::unpack(std::span<const std::byte> blocks) {
  auto& values = own_.emplace_back();
  values.reserve(blocks.size() / kBlockBytes * kGgufBlock);
  for (; !blocks.empty(); blocks = blocks.subspan(kBlockBytes)) {
    const float scale = half_at(blocks.data());
    for (std::size_t i = 2; i < kBlockBytes; ++i)
      values.push_back(scale * static_cast<float>(static_cast<std::int8_t>(blocks[i])));
  }
  return std::as_bytes(std::span(values));
}

void GgufFile::read_tensors(std::uint64_t count) {
  std::vector<Entry> entries;
  std::unordered_set<std::string> names;
  for (std::uint64_t i = 0; i < count; ++i) {
    Entry entry;
    entry.name = text();
    const auto dimensions = number<std::uint32_t>();
    if (dimensions > kGgufDimensions)
      fail(shown(entry.name) + " has " + std::to_string(dimensions) +
           " dimensions, expected at most 4: the file is damaged");
    for (std::uint32_t d = 0; d < dimensions; ++d)
      entry.shape.push_back(static_cast<std::int64_t>(number<std::uint64_t>()));
    std::reverse(entry.shape.begin(), entry.shape.end());
    entry.type = number<std::uint32_t>();
    entry.offset = number<std::uint64_t>();
    if (!names.insert(entry.name).second) fail("has the tensor " + shown(entry.name) + " twice");
    entries.push_back(std::move(entry));
  }
  const auto begin = (cursor_.position() + alignment_ - 1) / alignment_ * alignment_;
  const auto bytes = file_.bytes();
  const auto data = bytes.subspan(std::min<std::size_t>(begin, bytes.size()));
  std::uint64_t left = data.size();  // each lies in the file once
  for (const auto& entry : entries) {
    const auto wrong = [&](const std::string& reason) {
      throw CheckpointError(path.string() + ": " + shown(entry.name), reason);
    };
    const bool blocks = entry.type == kQ8_0;
    if (entry.type != kF32 && entry.type != kF16 && entry.type != kBF16 && !blocks)
      wrong("is of type " + type_name(entry.type) +
            ", which is not read; expected a GGUF of F32, F16, BF16 or Q8_0");
    const auto dtype = entry.type == kF16    ? DType::kF16
                       : entry.type == kBF16 ? DType::kBF16
                                             : DType::kF32;
    auto size = byte_count(dtype, entry.shape);
    if (size && blocks) {
      if (entry.shape.empty() || entry.shape.back() % kGgufBlock != 0)
        wrong("is Q8_0, but its rows are no multiple of 32");
      size = *size / sizeof(float) / kGgufBlock * kBlockBytes;
    }
    if (!size || entry.offset > data.size() || *size > data.size() - entry.offset)
      wrong("does not fit into the file: it is cut off or damaged");
    auto content = data.subspan(entry.offset, *size);
    if (*size > left) wrong("lies where others do: the file is damaged");
    left -= *size;
    if (blocks) {
      content = unpack(content);
      metadata["weights"] = "q8_0";
    }
    tensors.push_back({entry.name, dtype, entry.shape, content});
  }
}

class Writer {
 public:
  void text(std::string_view value) {
    append_number<std::uint64_t>(out, value.size());
    out += value;
  }
  void type(ValueType value) { append_number(out, static_cast<std::uint32_t>(value)); }
  void operator()(std::uint32_t value) {
    type(ValueType::kU32);
    append_number(out, value);
  }
  void operator()(float value) {
    type(ValueType::kF32);
    append_number(out, value);
  }
  void operator()(bool value) {
    type(ValueType::kBool);
    out += static_cast<char>(value ? 1 : 0);
  }
  void operator()(const std::string& value) {
    type(ValueType::kString);
    text(value);
  }
  void operator()(const std::vector<std::string>& values) {
    begin_list(ValueType::kString, values.size());
    for (const auto& value : values) text(value);
  }
  void operator()(const std::vector<std::int32_t>& values) {
    begin_list(ValueType::kI32, values.size());
    for (const auto value : values) append_number(out, value);
  }
  void pad() { out.append((kAlignment - out.size() % kAlignment) % kAlignment, '\0'); }
  std::string out;

 private:
  void begin_list(ValueType of, std::uint64_t count) {
    type(ValueType::kArray);
    type(of);
    append_number(out, count);
  }
};

// As ggml's reference quantization rounds.
std::vector<std::byte> quantized(std::span<const float> values) {
  constexpr std::size_t kBlock = kGgufBlock;
  std::vector<std::byte> out;
  out.reserve(values.size() / kBlock * kBlockBytes);
  for (; values.size() >= kBlock; values = values.subspan(kBlock)) {
    float largest = 0;
    for (std::size_t i = 0; i < kBlock; ++i) largest = std::max(largest, std::fabs(values[i]));
    const float scale = largest / 127.0f, inverse = scale != 0 ? 1.0f / scale : 0.0f;
    const auto half =
        converted({"", DType::kF32, {1}, std::as_bytes(std::span(&scale, 1))}, DType::kF16);
    out.insert(out.end(), half.begin(), half.end());
    for (std::size_t i = 0; i < kBlock; ++i)
      out.push_back(
          static_cast<std::byte>(static_cast<std::int8_t>(std::lround(values[i] * inverse))));
  }
  return out;
}

std::uint32_t ggml_type(const GgufTensor& one) {
  if (one.q8_0) return kQ8_0;
  return one.tensor.dtype == DType::kF32 ? kF32 : one.tensor.dtype == DType::kF16 ? kF16 : kBF16;
}

std::uint64_t size_of(const GgufTensor& one) {
  const auto bytes = *byte_count(one.tensor.dtype, one.tensor.shape);
  return one.q8_0 ? bytes / dtype_size(one.tensor.dtype) / kGgufBlock * kBlockBytes : bytes;
}

std::uint64_t padded(std::uint64_t size) {
  return (size + kAlignment - 1) / kAlignment * kAlignment;
}

void check(const std::string& where, std::span<const GgufTensor> tensors) {
  std::vector<PendingTensor> all;
  for (const auto& one : tensors) {
    const auto& tensor = one.tensor;
    const auto fail = [&](const std::string& reason) {
      throw CheckpointError(where + ": " + shown(tensor.name), reason);
    };
    if (tensor.dtype != DType::kF32 && tensor.dtype != DType::kF16 && tensor.dtype != DType::kBF16)
      fail("is of type " + std::string(dtype_name(tensor.dtype)) + ", expected F32, F16 or BF16");
    if (tensor.shape.size() > kGgufDimensions) fail("has more than 4 dimensions");
    if (one.q8_0 && (tensor.shape.empty() || tensor.shape.back() % kGgufBlock != 0))
      fail("has rows that are no multiple of 32, so it cannot be Q8_0");
    all.push_back(tensor);
  }
  check_pending(where, all);
}

}  // namespace

std::vector<std::string> gguf_strings(const std::string& list) {
  std::vector<std::string> texts;
  for (std::size_t begin = 0; begin < list.size();) {
    const auto end = std::min(list.find('\0', begin), list.size());
    texts.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return texts;
}

void write_gguf(const std::filesystem::path& path, std::span<const GgufTensor> tensors,
                const GgufMetadata& metadata) {
  const auto where = path.string();
  check(where, tensors);
  Writer header;
  header.out = kMagic;
  append_number(header.out, kVersion);
  append_number<std::uint64_t>(header.out, tensors.size());
  append_number<std::uint64_t>(header.out, metadata.size());
  for (const auto& [key, value] : metadata) {
    header.text(key);
    std::visit(header, value);
  }
  std::uint64_t offset = 0;
  for (const auto& one : tensors) {
    header.text(one.tensor.name);
    append_number(header.out, static_cast<std::uint32_t>(one.tensor.shape.size()));
    for (auto size = one.tensor.shape.rbegin(); size != one.tensor.shape.rend(); ++size)
      append_number(header.out, static_cast<std::uint64_t>(*size));
    append_number(header.out, ggml_type(one));
    append_number(header.out, offset);
    offset += padded(size_of(one));
  }
  header.pad();

  AtomicFile file(path);
  file.write(header.out);
  std::vector<std::byte> room;
  for (const auto& one : tensors) {
    auto bytes = bytes_of(where, one.tensor, room);
    std::vector<std::byte> small;
    if (one.q8_0) {
      const auto values = to_float32({one.tensor.name, one.tensor.dtype, one.tensor.shape, bytes});
      if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }))
        throw CheckpointError(where + ": " + shown(one.tensor.name),
                              "holds numbers that are not finite, so it cannot be Q8_0");
      small = quantized(values);
      bytes = small;
    }
    write_pieces(file, bytes);
    file.write(std::string(padded(bytes.size()) - bytes.size(), '\0'));
  }
  file.commit();
}

extern const Format kGguf{
    "a .gguf file", [](std::string_view beginning) { return beginning.starts_with(kMagic); },
    [](const std::filesystem::path& path) -> std::shared_ptr<const TensorFile::Contents> {
      return std::make_shared<GgufFile>(path);
    }};

}  // namespace rwkvx

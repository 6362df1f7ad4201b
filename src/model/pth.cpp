#include "rwkvx/model/pth.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <limits>
#include <optional>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "rwkvx/base/error.h"

namespace rwkvx {
namespace {

constexpr std::size_t kMaxPickleBytes = std::size_t{16} << 20;
constexpr std::size_t kMaxObjects = std::size_t{1} << 20;
constexpr std::size_t kMaxDimensions = 32;
// Tensors that are not contiguous are copied; several may be views of one storage.
constexpr std::uint64_t kMaxCopiedPerFileByte = 4;

std::string shown(std::string_view text) {
  constexpr std::size_t kShown = 200;
  return text.size() <= kShown ? std::string(text) : std::string(text.substr(0, kShown)) + "…";
}

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

// The stored entries of a zip file, found through its central directory.
class ZipFile {
 public:
  ZipFile(std::string where, std::string_view bytes) : where_(std::move(where)), bytes_(bytes) {
    const auto [offset, size, count] = find_directory();
    Cursor cursor(bytes_.substr(offset, size));
    for (std::uint64_t i = 0; i < count; ++i) read_entry(cursor);
  }

  const std::unordered_map<std::string, std::string_view>& entries() const { return entries_; }
  // The entry's bytes; throws where there is none of this name.
  std::string_view at(const std::string& name) const {
    const auto found = entries_.find(name);
    if (found == entries_.end()) fail("the archive has no " + shown(name));
    return found->second;
  }

 private:
  struct Directory {
    std::uint64_t offset, size, count;
  };

  static constexpr std::uint32_t kEnd = 0x06054b50, kEnd64 = 0x06064b50, kLocator64 = 0x07064b50,
                                 kCentral = 0x02014b50, kLocal = 0x04034b50;
  static constexpr std::size_t kEndBytes = 22, kEnd64Bytes = 56, kLocator64Bytes = 20,
                               kCentralBytes = 46;

  [[noreturn]] void fail(const std::string& reason) const { throw CheckpointError(where_, reason); }

  template <class Number>
  Number number_at(std::uint64_t offset) const {
    Number number{};
    if (offset > bytes_.size() || !Cursor(bytes_.substr(offset)).read(number))
      fail("the zip archive points outside the file: it is damaged");
    return number;
  }

  Directory find_directory() const {
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

  void read_entry(Cursor& cursor) {
    std::uint32_t signature = 0, crc = 0, small_stored = 0, small_size = 0, attributes = 0,
                  small_offset = 0;
    std::uint16_t versions = 0, flags = 0, method = 0, name_bytes = 0, extra_bytes = 0,
                  comment_bytes = 0, disk = 0, internal = 0;
    std::string_view name, extra;
    const bool whole = cursor.read(signature) && signature == kCentral && cursor.read(versions) &&
                       cursor.skip(2) && cursor.read(flags) && cursor.read(method) &&
                       cursor.skip(4) && cursor.read(crc) && cursor.read(small_stored) &&
                       cursor.read(small_size) && cursor.read(name_bytes) &&
                       cursor.read(extra_bytes) && cursor.read(comment_bytes) &&
                       cursor.read(disk) && cursor.read(internal) && cursor.read(attributes) &&
                       cursor.read(small_offset) && cursor.read(name, name_bytes) &&
                       cursor.read(extra, extra_bytes) && cursor.skip(comment_bytes);
    if (!whole) fail("the zip archive's directory is damaged");
    std::uint64_t stored = small_stored, size = small_size, offset = small_offset;
    if (!read_wide(extra, size, stored, offset))
      fail(shown(name) + " has a damaged entry in the archive");
    if (method != 0)
      fail(shown(name) + " is compressed, wanted the stored entries that torch.save writes");
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

  // Replaces what does not fit 32 bits by the zip64 extra field's values, which come in this order.
  static bool read_wide(std::string_view extra, std::uint64_t& size, std::uint64_t& stored,
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

  std::string where_;
  std::string_view bytes_;
  std::unordered_map<std::string, std::string_view> entries_;
};

enum class Kind {
  kNone,
  kBool,
  kInteger,
  kFloat,
  kText,
  kTuple,
  kList,
  kDict,
  kGlobal,   // what a REDUCE may call, or a storage's class
  kStorage,  // bytes of the archive with a dtype
  kTensor,
};

std::string_view kind_name(Kind kind) {
  static constexpr std::array<std::string_view, 11> kNames{
      "None",   "a boolean", "an integer", "a float",   "a text",  "a tuple",
      "a list", "a dict",    "a class",    "a storage", "a tensor"};
  return kNames[static_cast<std::size_t>(kind)];
}

// What a pickle may name. Everything else is refused, whether it is called or not.
enum class Global { kOrderedDict, kRebuildTensor, kRebuildParameter, kStorageClass };

struct GlobalRow {
  std::string_view module, name;
  Global global;
  DType dtype = DType::kF32;
};
constexpr std::array kGlobals{
    GlobalRow{"collections", "OrderedDict", Global::kOrderedDict},
    GlobalRow{"torch._utils", "_rebuild_tensor_v2", Global::kRebuildTensor},
    GlobalRow{"torch._utils", "_rebuild_parameter", Global::kRebuildParameter},
    GlobalRow{"torch._utils", "_rebuild_parameter_with_state", Global::kRebuildParameter},
    GlobalRow{"torch", "DoubleStorage", Global::kStorageClass, DType::kF64},
    GlobalRow{"torch", "FloatStorage", Global::kStorageClass, DType::kF32},
    GlobalRow{"torch", "HalfStorage", Global::kStorageClass, DType::kF16},
    GlobalRow{"torch", "BFloat16Storage", Global::kStorageClass, DType::kBF16},
    GlobalRow{"torch", "LongStorage", Global::kStorageClass, DType::kI64},
    GlobalRow{"torch", "IntStorage", Global::kStorageClass, DType::kI32},
    GlobalRow{"torch", "ShortStorage", Global::kStorageClass, DType::kI16},
    GlobalRow{"torch", "CharStorage", Global::kStorageClass, DType::kI8},
    GlobalRow{"torch", "ByteStorage", Global::kStorageClass, DType::kU8},
    GlobalRow{"torch", "BoolStorage", Global::kStorageClass, DType::kBool},
};

// An object of the pickle. Objects refer to others by index and none is ever walked recursively, so
// neither depth nor self-reference matters.
struct Object {
  using Index = std::uint32_t;
  explicit Object(Kind what = Kind::kNone) : kind(what) {}

  Kind kind;
  Global global = Global::kOrderedDict;
  DType dtype = DType::kF32;  // of a storage, its class or a tensor
  std::int64_t integer = 0;   // also a boolean; a tensor's offset in elements
  double number = 0;          // a float
  std::string_view text;      // a text; a storage's or tensor's bytes
  std::vector<Index> items;   // of tuples and lists; keys and values of dicts by turns
  std::vector<std::int64_t> shape, strides;  // a tensor's, in elements
};

// Names of the opcodes that are refused, for messages; those that are handled need none.
std::string_view opcode_name(unsigned char opcode) {
  static const std::unordered_map<unsigned char, std::string_view> kNames{
      {'0', "POP"},
      {'1', "POP_MARK"},
      {'2', "DUP"},
      {'F', "FLOAT"},
      {'I', "INT"},
      {'L', "LONG"},
      {'P', "PERSID"},
      {'S', "STRING"},
      {'T', "BINSTRING"},
      {'U', "SHORT_BINSTRING"},
      {'V', "UNICODE"},
      {'B', "BINBYTES"},
      {'C', "SHORT_BINBYTES"},
      {'d', "DICT"},
      {'l', "LIST"},
      {'g', "GET"},
      {'p', "PUT"},
      {'i', "INST"},
      {'o', "OBJ"},
      {0x81, "NEWOBJ"},
      {0x82, "EXT1"},
      {0x83, "EXT2"},
      {0x84, "EXT4"},
      {0x8b, "LONG4"},
      {0x8e, "BINBYTES8"},
      {0x8f, "EMPTY_SET"},
      {0x90, "ADDITEMS"},
      {0x91, "FROZENSET"},
      {0x92, "NEWOBJ_EX"},
      {0x96, "BYTEARRAY8"},
      {0x97, "NEXT_BUFFER"},
      {0x98, "READONLY_BUFFER"}};
  const auto found = kNames.find(opcode);
  return found == kNames.end() ? "unknown" : found->second;
}

std::string hex(unsigned char byte) {
  static constexpr char kDigits[] = "0123456789abcdef";
  return {'0', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
}

// Runs a pickle of protocol 2 to 5 as far as a state dict needs it.
class Unpickler {
 public:
  using Index = Object::Index;

  Unpickler(std::string where, std::string_view pickle, const ZipFile& zip, std::string folder)
      : where_(std::move(where)), cursor_(pickle), zip_(zip), folder_(std::move(folder)) {
    if (pickle.size() > kMaxPickleBytes)
      fail("has " + std::to_string(pickle.size()) + " bytes, wanted at most " +
           std::to_string(kMaxPickleBytes) + " for a dict of tensors");
  }

  // The object that the pickle leaves.
  const Object& run() {
    unsigned char opcode = 0;
    for (;;) {
      at_ = cursor_.position();
      need(cursor_.read(opcode));
      if (opcode == '.') break;
      step(opcode);
    }
    if (stack_.size() != 1 || !marks_.empty()) fail("does not end with one object");
    return objects_[stack_.back()];
  }

  const Object& object(Index index) const { return objects_[index]; }

  [[noreturn]] void fail(const std::string& reason) const { throw CheckpointError(where_, reason); }

 private:
  [[noreturn]] void malformed(const std::string& what) const {
    fail("malformed pickle at byte " + std::to_string(at_) + ": " + what);
  }
  void need(bool read) const {
    if (!read) malformed("it is cut off");
  }
  template <class Number>
  Number number() {
    Number value{};
    need(cursor_.read(value));
    return value;
  }
  std::string_view text(std::uint64_t count) {
    std::string_view value;
    need(cursor_.read(value, count));
    return value;
  }

  void push(Object object) {
    if (objects_.size() >= kMaxObjects)
      fail("has more than " + std::to_string(kMaxObjects) +
           " objects, too many for a dict of tensors");
    objects_.push_back(std::move(object));
    stack_.push_back(static_cast<Index>(objects_.size() - 1));
  }
  void push_integer(std::int64_t value) {
    Object object(Kind::kInteger);
    object.integer = value;
    push(std::move(object));
  }
  void push_bool(bool value) {
    Object object(Kind::kBool);
    object.integer = value ? 1 : 0;
    push(std::move(object));
  }
  void push_text(std::string_view value) {
    Object object(Kind::kText);
    object.text = value;
    push(std::move(object));
  }
  void push_items(Kind kind, std::vector<Index> items) {
    Object object(kind);
    object.items = std::move(items);
    push(std::move(object));
  }

  // Nothing below the last mark may be taken before the mark is.
  std::vector<Index> pop(std::size_t count) {
    const std::size_t floor = marks_.empty() ? 0 : marks_.back();
    if (stack_.size() - floor < count) malformed("the stack is empty");
    std::vector<Index> taken(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return taken;
  }
  std::vector<Index> pop_to_mark() {
    if (marks_.empty()) malformed("there is no mark");
    auto taken = pop(stack_.size() - marks_.back());
    marks_.pop_back();
    return taken;
  }
  Object& top(Kind kind) {
    const std::size_t floor = marks_.empty() ? 0 : marks_.back();
    if (stack_.size() <= floor) malformed("the stack is empty");
    auto& object = objects_[stack_.back()];
    if (object.kind != kind)
      malformed("wanted " + std::string(kind_name(kind)) + ", found " +
                std::string(kind_name(object.kind)));
    return object;
  }

  void remember(std::uint32_t slot) {
    const std::size_t floor = marks_.empty() ? 0 : marks_.back();
    if (stack_.size() <= floor) malformed("the stack is empty");
    if (memo_.size() >= kMaxObjects) malformed("it remembers too many objects");
    memo_[slot] = stack_.back();
  }
  void recall(std::uint32_t slot) {
    const auto found = memo_.find(slot);
    if (found == memo_.end()) malformed("nothing was put at " + std::to_string(slot));
    stack_.push_back(found->second);
  }

  void step(unsigned char opcode) {
    switch (opcode) {
      case 0x80: {  // PROTO
        const auto version = number<std::uint8_t>();
        if (version < 2 || version > 5)
          fail("wanted a pickle of protocol 2 to 5, found " + std::to_string(version));
        return;
      }
      case 0x95: {  // FRAME: says only how far to read ahead
        const auto bytes = number<std::uint64_t>();
        if (bytes > cursor_.left()) malformed("a frame reaches past the end");
        return;
      }
      case '(':
        return marks_.push_back(stack_.size());
      case 'N':
        return push(Object(Kind::kNone));
      case 0x88:
        return push_bool(true);
      case 0x89:
        return push_bool(false);
      case 'J':
        return push_integer(number<std::int32_t>());
      case 'K':
        return push_integer(number<std::uint8_t>());
      case 'M':
        return push_integer(number<std::uint16_t>());
      case 0x8a:  // LONG1
        return push_long(number<std::uint8_t>());
      case 'G': {  // BINFLOAT, the one big-endian number
        Object object(Kind::kFloat);
        object.number = std::bit_cast<double>(__builtin_bswap64(number<std::uint64_t>()));
        return push(std::move(object));
      }
      case 'X':
        return push_text(text(number<std::uint32_t>()));
      case 0x8c:
        return push_text(text(number<std::uint8_t>()));
      case 0x8d:
        return push_text(text(number<std::uint64_t>()));
      case '}':
        return push_items(Kind::kDict, {});
      case ']':
        return push_items(Kind::kList, {});
      case ')':
        return push_items(Kind::kTuple, {});
      case 't':
        return push_items(Kind::kTuple, pop_to_mark());
      case 0x85:
      case 0x86:
      case 0x87:
        return push_items(Kind::kTuple, pop(opcode - 0x84u));
      case 'a':
        return add(Kind::kList, pop(1), 1);
      case 'e':
        return add(Kind::kList, pop_to_mark(), 1);
      case 's':
        return add(Kind::kDict, pop(2), 2);
      case 'u':
        return add(Kind::kDict, pop_to_mark(), 2);
      case 'q':
        return remember(number<std::uint8_t>());
      case 'r':
        return remember(number<std::uint32_t>());
      case 0x94:  // MEMOIZE: the next slot
        return remember(static_cast<std::uint32_t>(memo_.size()));
      case 'h':
        return recall(number<std::uint8_t>());
      case 'j':
        return recall(number<std::uint32_t>());
      case 'c': {
        std::string_view module, name;
        need(cursor_.read_line(module) && cursor_.read_line(name));
        return push_global(module, name);
      }
      case 0x93: {  // STACK_GLOBAL
        const auto names = pop(2);
        return push_global(of_kind(names[0], Kind::kText).text,
                           of_kind(names[1], Kind::kText).text);
      }
      case 'Q':
        return push_storage(of_kind(pop(1)[0], Kind::kTuple));
      case 'R': {
        const auto call = pop(2);
        return reduce(of_kind(call[0], Kind::kGlobal), of_kind(call[1], Kind::kTuple));
      }
      case 'b':  // BUILD: attributes of an OrderedDict (the modules' versions) say nothing of
                 // weights
        pop(1);
        top(Kind::kDict);
        return;
      default:
        fail("pickle opcode " + hex(opcode) + " (" + std::string(opcode_name(opcode)) +
             ") at byte " + std::to_string(at_) +
             " is refused: it is not needed for a dict of tensors; save only model.state_dict()");
    }
  }

  const Object& of_kind(Index index, Kind kind) const {
    const auto& object = objects_[index];
    if (object.kind != kind)
      malformed("wanted " + std::string(kind_name(kind)) + ", found " +
                std::string(kind_name(object.kind)));
    return object;
  }

  void add(Kind kind, const std::vector<Index>& items, std::size_t each) {
    auto& target = top(kind).items;
    if (items.size() % each != 0) malformed("a key has no value");
    target.insert(target.end(), items.begin(), items.end());
  }

  void push_long(std::size_t count) {
    const auto bytes = text(count);
    if (count > 8) malformed("an integer has more than 64 bits");
    std::uint64_t value = 0;
    for (std::size_t i = count; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
    if (count > 0 && count < 8 && (static_cast<unsigned char>(bytes[count - 1]) & 0x80u) != 0)
      value |= ~std::uint64_t{0} << (8 * count);  // negative
    push_integer(static_cast<std::int64_t>(value));
  }

  void push_global(std::string_view module, std::string_view name) {
    for (const auto& row : kGlobals)
      if (row.module == module && row.name == name) {
        Object object(Kind::kGlobal);
        object.global = row.global;
        object.dtype = row.dtype;
        return push(std::move(object));
      }
    fail(
        "asks for " + shown(module) + "." + shown(name) +
        ", which is refused: it is not needed for a dict of tensors; save only model.state_dict()");
  }

  // ("storage", class, key, device, elements); the device does not matter here.
  void push_storage(const Object& id) {
    if (id.items.size() != 5 || of_kind(id.items[0], Kind::kText).text != "storage")
      malformed("wanted the five parts of a storage");
    const auto& storage_class = of_kind(id.items[1], Kind::kGlobal);
    if (storage_class.global != Global::kStorageClass) malformed("wanted a storage's class");
    const auto key = of_kind(id.items[2], Kind::kText).text;
    const auto count = of_kind(id.items[4], Kind::kInteger).integer;
    Object storage(Kind::kStorage);
    storage.dtype = storage_class.dtype;
    storage.text = zip_.at(folder_ + "/data/" + std::string(key));
    std::int64_t bytes = 0;
    if (count < 0 ||
        __builtin_mul_overflow(count, static_cast<std::int64_t>(dtype_size(storage.dtype)),
                               &bytes) ||
        static_cast<std::uint64_t>(bytes) != storage.text.size())
      fail("storage " + shown(key) + " should hold " + std::to_string(count) + " elements of " +
           std::string(dtype_name(storage.dtype)) + ", found " +
           std::to_string(storage.text.size()) + " bytes");
    push(std::move(storage));
  }

  void reduce(const Object& callee, const Object& arguments) {
    const auto& items = arguments.items;
    switch (callee.global) {
      case Global::kOrderedDict:
        if (!items.empty()) malformed("wanted an empty OrderedDict");
        return push_items(Kind::kDict, {});
      case Global::kRebuildParameter:
        if (items.empty()) malformed("a parameter has no tensor");
        of_kind(items[0], Kind::kTensor);
        return stack_.push_back(items[0]);
      case Global::kRebuildTensor:
        return push_tensor(items);
      case Global::kStorageClass:
        malformed("a storage's class cannot be called");
    }
  }

  std::vector<std::int64_t> integers(Index index) const {
    std::vector<std::int64_t> values;
    const auto& items = of_kind(index, Kind::kTuple).items;
    if (items.size() > kMaxDimensions)
      malformed("a tensor has more than " + std::to_string(kMaxDimensions) + " dimensions");
    for (const auto item : items) values.push_back(of_kind(item, Kind::kInteger).integer);
    return values;
  }

  // (storage, offset, shape, strides, requires_grad, hooks); only the first four matter.
  void push_tensor(const std::vector<Index>& items) {
    if (items.size() < 4) malformed("a tensor lacks storage, offset, shape or strides");
    const auto& storage = of_kind(items[0], Kind::kStorage);
    Object tensor(Kind::kTensor);
    tensor.dtype = storage.dtype;
    tensor.text = storage.text;
    tensor.integer = of_kind(items[1], Kind::kInteger).integer;
    tensor.shape = integers(items[2]);
    tensor.strides = integers(items[3]);
    if (tensor.shape.size() != tensor.strides.size())
      malformed("a tensor has " + std::to_string(tensor.shape.size()) + " sizes but " +
                std::to_string(tensor.strides.size()) + " strides");
    push(std::move(tensor));
  }

  std::string where_;
  Cursor cursor_;
  const ZipFile& zip_;
  std::string folder_;  // of the archive, before "/data/KEY"
  std::size_t at_ = 0;  // where the current opcode lies
  std::vector<Object> objects_;
  std::vector<Index> stack_;
  std::vector<std::size_t> marks_;  // heights of the stack
  std::unordered_map<std::uint32_t, Index> memo_;
};

struct Layout {
  std::uint64_t elements = 1;
  bool contiguous = true;
};

// Checks that a tensor's elements lie in its storage, each once. Returns what is wrong, or "".
std::string check_layout(const Object& tensor, Layout& layout) {
  const auto size = static_cast<std::int64_t>(dtype_size(tensor.dtype));
  const auto stored = static_cast<std::int64_t>(tensor.text.size()) / size;
  std::int64_t elements = 1, product = size, last = tensor.integer, dense = 1;
  if (tensor.integer < 0) return "has a negative offset";
  for (std::size_t d = tensor.shape.size(); d-- > 0;) {
    const auto count = tensor.shape[d], stride = tensor.strides[d];
    std::int64_t reach = 0;
    if (count < 0 || stride < 0) return "has a negative size or stride";
    if (__builtin_mul_overflow(product, std::max<std::int64_t>(count, 1), &product))
      return "is too large";
    elements *= count;  // no overflow: no larger than the product
    if (count > 1 && stride != dense) layout.contiguous = false;
    if (count > 0 && (__builtin_mul_overflow(count - 1, stride, &reach) ||
                      __builtin_add_overflow(last, reach, &last)))
      return "reaches outside its storage";
    dense *= std::max<std::int64_t>(count, 1);
  }
  layout.elements = static_cast<std::uint64_t>(elements);
  if (elements == 0) return tensor.integer <= stored ? "" : "reaches outside its storage";
  if (last >= stored) return "reaches outside its storage";
  if (elements > stored) return "repeats elements of its storage (an expanded tensor)";
  return "";
}

// Copies strided elements in row-major order.
std::vector<std::byte> gather(const Object& tensor, std::uint64_t elements) {
  const auto size = dtype_size(tensor.dtype);
  std::vector<std::byte> out(elements * size);
  std::vector<std::int64_t> index(tensor.shape.size(), 0);
  std::int64_t from = tensor.integer;
  for (std::uint64_t i = 0; i < elements; ++i) {
    std::memcpy(out.data() + i * size, tensor.text.data() + static_cast<std::size_t>(from) * size,
                size);
    for (std::size_t d = index.size(); d-- > 0;) {
      from += tensor.strides[d];
      if (++index[d] < tensor.shape[d]) break;
      from -= tensor.strides[d] * tensor.shape[d];
      index[d] = 0;
    }
  }
  return out;
}

std::optional<std::string> scalar_text(const Object& object) {
  switch (object.kind) {
    case Kind::kNone:
      return "null";
    case Kind::kBool:
      return object.integer != 0 ? "true" : "false";
    case Kind::kInteger:
      return std::to_string(object.integer);
    case Kind::kFloat: {
      std::array<char, 64> digits{};
      const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), object.number);
      return std::string(digits.data(), end.ptr);
    }
    case Kind::kText:
      return std::string(object.text);
    default:
      return std::nullopt;
  }
}

}  // namespace

PthFile::PthFile(std::filesystem::path path)
    : path_(std::move(path)), file_(std::make_unique<MappedFile>(path_)) {
  const auto where = path_.string();
  if (!file_->text().starts_with("PK\x03\x04"))
    throw CheckpointError(where,
                          "wanted the zip archive that torch.save writes, found another file");
  const ZipFile zip(where, file_->text());

  // Everything lies in one folder of the archive, named after the file that was first written.
  constexpr std::string_view kPickle = "/data.pkl";
  std::string folder;
  for (const auto& [name, bytes] : zip.entries())
    if (name.ends_with(kPickle) && name.find('/') == name.size() - kPickle.size()) {
      if (!folder.empty())
        throw CheckpointError(where, "the archive has two folders with data.pkl");
      folder = name.substr(0, name.size() - kPickle.size());
    }
  if (folder.empty())
    throw CheckpointError(where, "the archive has no data.pkl: torch.save did not write it");
  const auto order = zip.entries().find(folder + "/byteorder");
  if (order != zip.entries().end() && order->second != "little")
    throw CheckpointError(where,
                          "wanted little-endian tensors, found byte order " + shown(order->second));

  const std::string pickle_name = folder + std::string(kPickle);
  Unpickler unpickler(where + ": " + shown(pickle_name), zip.at(pickle_name), zip, folder);
  const auto& result = unpickler.run();
  if (result.kind != Kind::kDict)
    unpickler.fail("wanted a dict of tensors, found " + std::string(kind_name(result.kind)));

  std::unordered_set<std::string_view> names;
  std::uint64_t may_copy = kMaxCopiedPerFileByte * file_->bytes().size();
  for (std::size_t i = 0; i + 1 < result.items.size(); i += 2) {
    const auto& key = unpickler.object(result.items[i]);
    const auto& value = unpickler.object(result.items[i + 1]);
    if (key.kind != Kind::kText)
      unpickler.fail("wanted texts as the dict's keys, found " + std::string(kind_name(key.kind)));
    const std::string name(key.text);
    if (!names.insert(key.text).second) unpickler.fail("the dict has " + shown(name) + " twice");
    if (const auto text = scalar_text(value)) metadata_[name] = *text;
    if (value.kind != Kind::kTensor) continue;
    Layout layout;
    const auto problem = check_layout(value, layout);
    if (!problem.empty())
      throw CheckpointError(where + ": " + shown(name),
                            "shape " + shape_text(value.shape) + " " + problem);
    const auto bytes = layout.elements * dtype_size(value.dtype);
    std::span<const std::byte> content;
    if (layout.contiguous || layout.elements == 0) {
      const auto first = static_cast<std::size_t>(value.integer) * dtype_size(value.dtype);
      content = std::as_bytes(std::span(value.text)).subspan(first, bytes);
    } else {
      if (bytes > may_copy)
        throw CheckpointError(where + ": " + shown(name),
                              "too many tensors are views of the same bytes; call contiguous() on "
                              "each before saving");
      may_copy -= bytes;
      content = copies_.emplace_back(gather(value, layout.elements));
    }
    tensors_.push_back({name, value.dtype, value.shape, content});
  }
}

const TensorView* PthFile::find(std::string_view name) const {
  for (const auto& tensor : tensors_)
    if (tensor.name == name) return &tensor;
  return nullptr;
}

}  // namespace rwkvx

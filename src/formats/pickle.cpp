#include "formats/pickle.h"

#include <array>
#include <bit>
#include <unordered_map>
#include <utility>

#include "formats/format.h"
#include "rwkvx/base/error.h"

namespace rwkvx {
namespace {

constexpr std::size_t kMaxPickleBytes = std::size_t{16} << 20;
constexpr std::size_t kMaxObjects = std::size_t{1} << 20;

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

class Unpickler {
 public:
  using Index = Object::Index;

  Unpickler(std::string where, std::string_view pickle, const ZipFile& zip, std::string folder)
      : where_(std::move(where)), cursor_(pickle), zip_(zip), folder_(std::move(folder)) {
    if (pickle.size() > kMaxPickleBytes)
      fail("has " + std::to_string(pickle.size()) + " bytes, expected at most " +
           std::to_string(kMaxPickleBytes) + " for a dict of tensors");
  }

  Pickle run() {
    unsigned char opcode = 0;
    for (;;) {
      at_ = cursor_.position();
      need(cursor_.read(opcode));
      if (opcode == '.') break;
      step(opcode);
    }
    if (stack_.size() != 1 || !marks_.empty()) fail("does not end with one object");
    return {std::move(objects_), stack_.back()};
  }

 private:
  [[noreturn]] void fail(const std::string& reason) const { throw CheckpointError(where_, reason); }
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
      malformed("expected " + std::string(kind_name(kind)) + ", got " +
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
          fail("expected a pickle of protocol 2 to 5, got " + std::to_string(version));
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
      malformed("expected " + std::string(kind_name(kind)) + ", got " +
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
    if (name.starts_with("_rebuild_qtensor") || name.starts_with("_rebuild_wrapper") ||
        (module == "torch" && (name.starts_with("qint") || name.starts_with("quint") ||
                               name.starts_with("QInt") || name.starts_with("QUInt"))))
      fail("holds quantized tensors of PyTorch (" + shown(module) + "." + shown(name) +
           "), which are not read; save the weights as floating-point numbers");
    if (name == "_rebuild_tensor_v3" ||
        (module == "torch" && (name.starts_with("float8") || name.starts_with("float4"))) ||
        name == "UntypedStorage")
      fail("holds tensors of a type such as fp8 (" + shown(module) + "." + shown(name) +
           "), which is not read; convert the weights to bfloat16, float16 or float32 before "
           "saving");
    fail(
        "asks for " + shown(module) + "." + shown(name) +
        ", which is refused: it is not needed for a dict of tensors; save only model.state_dict()");
  }

  // ("storage", class, key, device, elements); the device does not matter here.
  void push_storage(const Object& id) {
    if (id.items.size() != 5 || of_kind(id.items[0], Kind::kText).text != "storage")
      malformed("expected the five parts of a storage");
    const auto& storage_class = of_kind(id.items[1], Kind::kGlobal);
    if (storage_class.global != Global::kStorageClass) malformed("expected a storage's class");
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
           std::string(dtype_name(storage.dtype)) + ", got " + std::to_string(storage.text.size()) +
           " bytes");
    push(std::move(storage));
  }

  void reduce(const Object& callee, const Object& arguments) {
    const auto& items = arguments.items;
    switch (callee.global) {
      case Global::kOrderedDict:
        if (!items.empty()) malformed("expected an empty OrderedDict");
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

}  // namespace

std::string_view kind_name(Kind kind) {
  static constexpr std::array<std::string_view, 11> kNames{
      "None",   "a boolean", "an integer", "a float",   "a string", "a tuple",
      "a list", "a dict",    "a class",    "a storage", "a tensor"};
  return kNames[static_cast<std::size_t>(kind)];
}

std::string_view storage_class(DType dtype) {
  for (const auto& row : kGlobals)
    if (row.global == Global::kStorageClass && row.dtype == dtype) return row.name;
  return "";
}

Pickle read_pickle(const std::string& where, std::string_view pickle, const ZipFile& zip,
                   const std::string& folder) {
  return Unpickler(where, pickle, zip, folder).run();
}

}  // namespace rwkvx

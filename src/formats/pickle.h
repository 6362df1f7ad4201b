// Pickles of state dicts, read without running anything that they ask for.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/zip_file.h"
#include "rwkvx/formats/tensor.h"

namespace rwkvx {

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

// "a list", for messages.
std::string_view kind_name(Kind kind);

// The name of PyTorch's class of storages of a type ("FloatStorage"); "" where there is none.
std::string_view storage_class(DType dtype);

// What a pickle may name. Everything else is refused, whether it is called or not.
enum class Global { kOrderedDict, kRebuildTensor, kRebuildParameter, kStorageClass };

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

// The objects of a pickle; those that others refer to lie anywhere.
struct Pickle {
  std::vector<Object> objects;
  Object::Index result = 0;  // the one it leaves
};

// Runs a pickle of protocol 2 to 5 as far as a state dict needs it. Storages are the entries
// `folder`/data/KEY of `zip`, whose bytes the objects refer to. Throws CheckpointError with
// `where`.
Pickle read_pickle(const std::string& where, std::string_view pickle, const ZipFile& zip,
                   const std::string& folder);

}  // namespace rwkvx

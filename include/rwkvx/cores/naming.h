// How other tools name a core's tensors and lay them out: a table per tool, which is read in both
// directions.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/formats/tensor_file.h"

namespace rwkvx {

struct ModelConfig;

// How a tensor of the other tool holds the official one.
enum class Layout {
  kSame,
  kVector,      // flat, where the official one may be (1, 1, C)
  kTransposed,  // a matrix (in, out) as (out, in)
  kPart,        // slice `part` along the first dimension, of as many as rows have its name
  kHeads,       // flat, where the official one is (heads, head size)
};

struct NameRow {
  std::string_view official;  // "emb.weight"; of a block "att.key.weight"
  std::string_view other;     // "rwkv.embeddings.weight"; of a block "attention.key.weight"
  Layout layout = Layout::kSame;
  std::int64_t part = 0;
  // What stands in its place in block 0, where the official model has no such tensor: the official
  // name of another one that is written twice, or kNothing.
  std::string_view in_first_block = {};
};
inline constexpr std::string_view kNothing = "-";

enum class NamingUse { kReadOnly, kHuggingFace, kGguf };

struct Naming {
  NamingUse use = NamingUse::kReadOnly;  // the format that is written with it
  std::string_view block;                // before a block's number: "rwkv.blocks."
  std::span<const NameRow> model;        // the tensors outside the blocks, and ln0
  std::span<const NameRow> blocks;
  // What the format says of a model beside its tensors: config.json of a directory of the
  // transformers library, or the metadata of a GGUF.
  nlohmann::ordered_json (*describe)(const ModelConfig& config, const TensorFile& file) = nullptr;
  std::string_view head_size_key = {};          // the metadata that kHeads needs
  std::span<const std::string_view> wide = {};  // matrices that are float32 in any case
};

// What names a wrapper puts before every name (DeepSpeed, Lightning, torch.compile) are dropped
// from one.
std::string_view without_wrappers(std::string_view name);

// The same tensors under their official names, laid out as the official model has them; what lies
// otherwise is copied. Names of no table stay. Throws CheckpointError naming a tensor that cannot
// be laid out so and one whose official name another one has.
TensorFile with_layout_of_official(const TensorFile& file);

// The tensors of the official `file` as `naming` has them, block after block. `dtype` gives the
// type of each, by its official name and the view. Throws CheckpointError naming a tensor of the
// file that has no place in the table; `left_out` says for which that is wanted.
std::vector<PendingTensor> in_layout_of(
    const Naming& naming, const ModelConfig& config, const TensorFile& file,
    const std::function<DType(const TensorView& tensor)>& dtype,
    const std::function<bool(const std::string& name)>& left_out);

}  // namespace rwkvx

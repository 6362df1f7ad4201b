// What is trained beside a model and kept apart from it: LoRA matrices, an initial state, or the
// gated positional shift in front of a plain model. Files of a few megabytes; docs/adapters.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/config/model_config.h"

namespace rwkvx {

enum class AdapterKind { kLora, kState, kShift };
constexpr std::string_view enum_names(AdapterKind) { return "lora|state|shift"; }

inline constexpr char kAdapterFile[] = "adapter.safetensors";  // the usual name
inline constexpr char kAdapterFormat[] = "rwkvx adapter 1";    // "format" in the file's metadata

struct AdapterTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};

// The tensors, by kind:
//   lora   for the matrix blocks.0.att.key.weight (M, N) blocks.0.att.key.lora_A (r, N) and
//          blocks.0.att.key.lora_B (M, r): W + (alpha / r) B A takes the matrix's place; any other
//          name is that of a parameter of the base, which the tensor takes the place of
//   state  rows of describe_state() that are no rings, such as blocks.0.att.wkv: what they hold
//          before the first token
//   shift  all parameters of the gated positional shift, under their own names
struct Adapter {
  AdapterKind kind = AdapterKind::kLora;
  std::string base_hash;     // ModelSource::hash() of the base; empty where it is not known
  std::int64_t rank = 0;     // of lora
  double alpha = 0;          // of lora
  bool stores_alpha = true;  // false: its file does not, and alpha is what was given for it
  ShiftConfig shift;         // of shift
  std::vector<AdapterTensor> tensors;

  std::int64_t parameters() const;
  // Of what the adapter does to a base, whatever file it came from and whichever base it is for.
  std::string hash() const;
};

// "blocks.0.att.key.lora_A" of the matrix "blocks.0.att.key.weight"; of one whose name does not end
// in ".weight", such as "blocks.0.att.w1", "blocks.0.att.w1.lora_A".
std::string lora_a_name(std::string_view matrix);
std::string lora_b_name(std::string_view matrix);

// Throws CheckpointError naming `where` and the tensor where the adapter is wrong in itself: a rank
// that is not 1 or more, half a pair, a shape, a number that is not finite.
void check_adapter(const Adapter& adapter, const std::string& where);
// The same where it does not fit a model: a name that this one does not have, another shape.
void check_adapter(const Adapter& adapter, const ModelConfig& base, const std::string& where);

// The model with the adapter: that of the base, with the shift of a shift adapter.
ModelConfig adapted_config(const Adapter& adapter, const ModelConfig& base);

// The file that a path means: itself; the adapter.safetensors in a directory, or in the checkpoint
// that resolve_checkpoint() finds for it. Throws CheckpointError where there is none.
std::filesystem::path find_adapter(const std::filesystem::path& path);
// Whether a file is an adapter, by its names and metadata. Throws as open_tensor_file() does.
bool is_adapter(const std::filesystem::path& path);
// The same, also of a directory that holds one and no model; false for what is no file of tensors.
bool looks_like_adapter(const std::filesystem::path& path);

// The alpha of a LoRA file that does not hold one, where none is given: RWKV-PEFT's own default.
inline constexpr double kPeftAlpha = 32;

// Reads the adapter that find_adapter() finds: ours, or a .pth of RWKV-PEFT (LoRA or state tuning,
// see write_peft()). The alpha of a file that holds none is `alpha`, or kPeftAlpha. Throws
// CheckpointError for what is no adapter or wrong in itself, FileError.
Adapter read_adapter(const std::filesystem::path& path, std::optional<double> alpha = {});

// Writes ours, atomically: a safetensors file of float32 with checksums; the metadata has "format",
// "kind", "base", and "rank" and "alpha", or "shift" (JSON). Throws CheckpointError, FileError.
void write_adapter(const std::filesystem::path& path, const Adapter& adapter);

// Writes what RWKV-PEFT's training writes, a .pth:
//   lora   the tensors under the same names and in the same shapes (rwkvt/peft/rwkvLinear.py); its
//          merge/merge.py wants alpha as --lora_alpha
//   state  blocks.0.att.time_state (H, value, key) in place of blocks.0.att.wkv, of RWKV-7
// Throws CheckpointError for an adapter that it has no place for, FileError.
void write_peft(const std::filesystem::path& path, const Adapter& adapter);

// What to say where the alpha of a file that holds none was not given.
std::string default_alpha_notice(const Adapter& adapter);

// "32", "0.5": as messages and metadata have it.
std::string alpha_text(double alpha);

// What `rwkvx info` prints of an adapter.
nlohmann::ordered_json describe_adapter(const std::filesystem::path& path);

}  // namespace rwkvx

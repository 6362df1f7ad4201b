// Models from one form on the disk to another.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/checkpoint/model_source.h"

namespace rwkvx {

enum class ModelFormat { kPth, kSafetensors, kHuggingFace, kGguf, kCheckpoint };
constexpr std::string_view enum_names(ModelFormat) { return "pth|safetensors|hf|gguf|checkpoint"; }

// The types of weights that can be written; q8_0 is GGUF's.
enum class StoredType { kF32, kBF16, kF16, kQ8_0 };
constexpr std::string_view enum_names(StoredType) { return "f32|bf16|f16|q8_0"; }

struct ConvertOptions {
  ModelFormat format = ModelFormat::kCheckpoint;
  std::optional<StoredType> type{};  // nothing: that of each tensor, float64 as float32
  bool drop_enhancement = false;
  bool overwrite = false;
  const Tokenizer* tokenizer = nullptr;  // the model's, where it has one
};

struct ConvertResult {
  std::int64_t tensors = 0;
  std::int64_t bytes = 0;          // of the weights' file
  std::vector<std::string> notes;  // what did not travel along, or is read by few
};

// Writes the model of `source` as `out`, atomically: a file, or for hf and checkpoint a directory.
// One tensor at a time is in memory. Equal weights of one type give the same bytes, whatever form
// they came from. Throws ConfigError for options that do not fit and where `out` exists and
// `overwrite` is off; CheckpointError for a model that the format has no place for (an enhanced
// one, without drop_enhancement; another core), that is quantized or not whole; FileError.
ConvertResult convert_model(const ModelSource& source, const std::filesystem::path& out,
                            const ConvertOptions& options);

// The format that a name's ending stands for; nothing for a directory's.
std::optional<ModelFormat> format_by_name(const std::filesystem::path& out);

}  // namespace rwkvx

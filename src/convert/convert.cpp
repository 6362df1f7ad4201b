#include "rwkvx/convert/convert.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "convert/output_directory.h"
#include "convert/tokenizer_files.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/field.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/cores/parameters.h"
#include "rwkvx/formats/gguf.h"
#include "rwkvx/formats/pth.h"
#include "rwkvx/formats/safetensors.h"

namespace rwkvx {
namespace fs = std::filesystem;
namespace {

// Numbers of GGUF's general.file_type.
constexpr std::uint32_t kFileF32 = 0, kFileF16 = 1, kFileQ8_0 = 7, kFileBF16 = 32;

DType dtype_of(StoredType type) {
  switch (type) {
    case StoredType::kF32:
      return DType::kF32;
    case StoredType::kBF16:
      return DType::kBF16;
    default:
      return DType::kF16;
  }
}

// The tensors of a model that is being converted.
class Conversion {
 public:
  Conversion(const ModelSource& source, const ConvertOptions& options)
      : source_(source), options_(options), config_(source.config) {
    refuse_quantized();
    drop_enhancement();
    for (const auto& row : describe_parameters(config_)) check(row);
    for (const auto& tensor : source_.file.tensors())
      if (!rows_.contains(tensor.name) && !left_out(tensor.name)) {
        if (is_unused(tensor.name))
          unused_.push_back(tensor.name);
        else
          fail(tensor.name, unknown_tensor(tensor.name));
      }
  }

  const ModelConfig& config() const { return config_; }
  std::vector<std::string> notes;

  // Under the official names, in the order of checkpoints.
  std::vector<PendingTensor> official(bool with_unused) const {
    std::vector<PendingTensor> tensors;
    for (const auto& row : order_) tensors.push_back(make(source_.file.at(row.name), row.shape));
    if (with_unused)
      for (const auto& name : unused_)
        tensors.push_back(make(source_.file.at(name), source_.file.at(name).shape));
    return tensors;
  }

  const Naming& naming(NamingUse use, const char* format) const {
    const auto& core = core_of(config_);
    for (const auto& naming : core.namings())
      if (naming.use == use) return naming;
    throw CheckpointError(source_.path.string(), std::string("is an ") + std::string(core.help) +
                                                     " model, which " + format +
                                                     " files do not hold");
  }

  std::vector<PendingTensor> named(const Naming& naming,
                                   const std::function<DType(const TensorView&)>& dtype) const {
    return in_layout_of(naming, config_, source_.file, dtype, [&](const std::string& name) {
      return left_out(name) || std::ranges::find(unused_, name) != unused_.end();
    });
  }

  DType dtype(const TensorView& tensor) const {
    if (options_.type && *options_.type != StoredType::kQ8_0) return dtype_of(*options_.type);
    return tensor.dtype == DType::kF64 ? DType::kF32 : tensor.dtype;
  }

 private:
  [[noreturn]] void fail(const std::string& tensor, const std::string& reason) const {
    throw CheckpointError(source_.path.string() + ": " + tensor, reason);
  }

  void refuse_quantized() const {
    for (const auto& tensor : source_.file.tensors())
      if (tensor.dtype != DType::kF64 && tensor.dtype != DType::kF32 &&
          tensor.dtype != DType::kF16 && tensor.dtype != DType::kBF16)
        fail(tensor.name, "holds " + std::string(dtype_name(tensor.dtype)) +
                              " numbers; a quantized model is not converted: convert the one that "
                              "it was made from");
  }

  bool holds_enhancement() const {
    return options_.format == ModelFormat::kCheckpoint || options_.format == ModelFormat::kPth ||
           options_.format == ModelFormat::kSafetensors;
  }

  void drop_enhancement() {
    if (!config_.shift.enabled()) {
      if (options_.drop_enhancement)
        throw ConfigError("--drop-enhancement", "the model has no enhancement");
      return;
    }
    std::int64_t tensors = 0, parameters = 0;
    for (const auto& row : describe_parameters(config_))
      if (row.of_shift()) ++tensors, parameters += row.count();
    const auto what = "the gated positional shift (" + std::to_string(tensors) + " tensors, " +
                      std::to_string(parameters) + " parameters)";
    if (options_.drop_enhancement) {
      config_.shift = {};
      config_.shift.kind = ShiftKind::kNone;
      notes.push_back("left out " + what + ": what remains is the core alone, whose text differs");
      return;
    }
    if (!holds_enhancement())
      throw CheckpointError(source_.path.string(),
                            "has " + what + ", which the format " + enum_name(options_.format) +
                                " cannot hold; leave it out with --drop-enhancement, or choose "
                                "checkpoint, safetensors or pth");
    if (options_.format == ModelFormat::kCheckpoint) return;
    auto kept = infer_config(source_.file).shift;
    kept.gate_bias = config_.shift.gate_bias;  // where training began
    if (config_to_json(kept) != config_to_json(config_.shift))
      throw CheckpointError(source_.path.string(),
                            "has settings of the gated positional shift that a file of tensors "
                            "does not show; choose checkpoint");
    notes.push_back("holds " + what + ", which only rwkvx reads");
  }

  void check(const ParameterRow& row) {
    const auto* tensor = source_.file.find(row.name);
    if (tensor == nullptr) fail(row.name, missing_tensor(row.name, row.shape));
    if (tensor->numel() != row.count())
      fail(row.name,
           "expected shape " + shape_text(row.shape) + ", got " + shape_text(tensor->shape));
    rows_.insert(row.name);
    order_.push_back(row);
  }

  bool left_out(const std::string& name) const {
    return options_.drop_enhancement && name.find(".shift.") != std::string::npos;
  }

  PendingTensor make(const TensorView& tensor, const Shape& shape) const {
    const auto type = dtype(tensor);
    return {tensor.name, type, shape,
            [&tensor, type](std::vector<std::byte>& room) -> std::span<const std::byte> {
              if (tensor.dtype == type) return tensor.bytes;
              return room = converted(tensor, type);
            }};
  }

  const ModelSource& source_;
  const ConvertOptions& options_;
  ModelConfig config_;
  std::set<std::string> rows_;
  std::vector<ParameterRow> order_;
  std::vector<std::string> unused_;
};

std::int64_t size_of(const fs::path& path) {
  return static_cast<std::int64_t>(fs::file_size(path));
}

void note_tokenizer(Conversion& conversion, const ConvertOptions& options, const char* format) {
  if (options.tokenizer == nullptr) return;
  conversion.notes.push_back("the " + options.tokenizer->kind() +
                             " tokenizer did not travel along: " + format +
                             " have no place for it");
}

// The metadata of a GGUF from what the core says; whole numbers as u32, others as f32.
GgufMetadata gguf_metadata(const nlohmann::ordered_json& settings) {
  GgufMetadata metadata;
  for (const auto& [key, value] : settings.items()) {
    if (value.is_string())
      metadata.emplace_back(key, value.get<std::string>());
    else if (value.is_number_integer())
      metadata.emplace_back(key, value.get<std::uint32_t>());
    else
      metadata.emplace_back(key, value.get<float>());
  }
  return metadata;
}

std::int64_t write_gguf_model(Conversion& conversion, const ModelSource& source,
                              const fs::path& out, const ConvertOptions& options) {
  const auto& naming = conversion.naming(NamingUse::kGguf, "GGUF");
  const bool q8_0 = options.type == StoredType::kQ8_0;
  // As llama.cpp's own conversion: vectors, and matrices that the core names, are float32.
  const auto dtype = [&](const TensorView& tensor) {
    const auto dot = tensor.name.find('.', std::string_view("blocks.").size());
    const auto in_block = tensor.name.starts_with("blocks.") ? tensor.name.substr(dot + 1) : "";
    const bool wide = std::ranges::find(naming.wide, in_block) != naming.wide.end();
    const auto dimensions =
        std::ranges::count_if(tensor.shape, [](std::int64_t size) { return size != 1; });
    if (wide || dimensions < 2 || in_block.ends_with(".r_k")) return DType::kF32;
    return q8_0 ? DType::kF32 : conversion.dtype(tensor);
  };
  std::vector<GgufTensor> tensors;
  std::map<DType, std::int64_t> counts;
  for (auto& tensor : conversion.named(naming, dtype)) {
    const bool matrix = tensor.shape.size() == 2;
    const auto count = static_cast<std::int64_t>(matrix ? tensor.shape[0] * tensor.shape[1] : 0);
    counts[tensor.dtype] += count;
    const bool wide = std::ranges::any_of(naming.blocks, [&](const NameRow& row) {
      return std::ranges::find(naming.wide, row.official) != naming.wide.end() &&
             tensor.name.ends_with(row.other);
    });
    const bool block = q8_0 && matrix && !wide && tensor.shape[1] % kGgufBlock == 0;
    tensors.push_back({std::move(tensor), block});
  }
  auto metadata = gguf_metadata(naming.describe(conversion.config(), source.file));
  const auto most =
      std::ranges::max_element(counts, {}, [](const auto& one) { return one.second; });
  const auto main_type = most == counts.end() ? DType::kF32 : most->first;
  metadata.emplace_back("general.file_type", q8_0                        ? kFileQ8_0
                                             : main_type == DType::kF16  ? kFileF16
                                             : main_type == DType::kBF16 ? kFileBF16
                                                                         : kFileF32);
  metadata.emplace_back("general.quantization_version", std::uint32_t{2});
  if (!add_gguf_tokenizer(options.tokenizer, conversion.config().vocab_size, metadata))
    note_tokenizer(conversion, options, "GGUF files for RWKV");
  write_gguf(out, tensors, metadata);
  return static_cast<std::int64_t>(tensors.size());
}

std::int64_t write_hugging_face(Conversion& conversion, const ModelSource& source,
                                const fs::path& out, const ConvertOptions& options,
                                std::int64_t& bytes) {
  const auto& naming = conversion.naming(NamingUse::kHuggingFace, "the transformers library's");
  const auto tensors =
      conversion.named(naming, [&](const TensorView& tensor) { return conversion.dtype(tensor); });
  OutputDirectory directory(out, options.overwrite);
  stream_safetensors(directory.path() / kWeightsFile, tensors, {{"format", "pt"}});
  bytes = size_of(directory.path() / kWeightsFile);
  auto config = naming.describe(conversion.config(), source.file);
  const auto main_type = conversion.dtype(source.file.at("emb.weight"));
  config["torch_dtype"] = main_type == DType::kBF16  ? "bfloat16"
                          : main_type == DType::kF16 ? "float16"
                                                     : "float32";
  write_file(directory.path() / kConfigFile, config.dump(2) + "\n");
  if (!write_hugging_face_tokenizer(options.tokenizer, source, conversion.config().vocab_size,
                                    directory.path()))
    note_tokenizer(conversion, options, "directories of the transformers library");
  directory.commit();
  return static_cast<std::int64_t>(tensors.size());
}

std::int64_t write_checkpoint(const Conversion& conversion, const ModelSource& source,
                              const fs::path& out, const ConvertOptions& options,
                              std::int64_t& bytes) {
  if (options.tokenizer == nullptr)
    throw ConfigError("--tokenizer",
                      "is required: a checkpoint holds its tokenizer, and the model has none "
                      "beside it");
  const auto tensors = conversion.official(/*with_unused=*/false);
  CheckpointWriter writer(out);
  stream_safetensors(writer.path() / kWeightsFile, tensors, {{"format", "rwkvx"}});
  bytes = size_of(writer.path() / kWeightsFile);
  auto described = source;
  described.config = conversion.config();
  write_file(writer.path() / kConfigFile,
             checkpoint_document(described, *options.tokenizer).dump(2) + "\n");
  fs::create_directory(writer.path() / kTokenizerFolder);
  options.tokenizer->save(writer.path() / kTokenizerFolder);
  writer.commit();
  return static_cast<std::int64_t>(tensors.size());
}

}  // namespace

std::optional<ModelFormat> format_by_name(const fs::path& out) {
  const auto ending = out.extension();
  if (ending == ".pth" || ending == ".pt") return ModelFormat::kPth;
  if (ending == ".safetensors") return ModelFormat::kSafetensors;
  if (ending == ".gguf") return ModelFormat::kGguf;
  return std::nullopt;
}

ConvertResult convert_model(const ModelSource& source, const fs::path& out,
                            const ConvertOptions& options) {
  if (options.type == StoredType::kQ8_0 && options.format != ModelFormat::kGguf)
    throw ConfigError("--type", "q8_0 is only for --to gguf; choose f32, bf16 or f16");
  std::error_code error;
  if (fs::exists(out, error) && !options.overwrite)
    throw FileError(out.string(), "already exists; replace it with --overwrite");
  Conversion conversion(source, options);
  ConvertResult result;
  switch (options.format) {
    case ModelFormat::kPth:
    case ModelFormat::kSafetensors: {
      const auto tensors = conversion.official(/*with_unused=*/true);
      if (options.format == ModelFormat::kPth)
        write_pth(out, tensors);
      else
        stream_safetensors(out, tensors, {{"format", "pt"}});
      note_tokenizer(conversion, options, "files of tensors");
      result.tensors = static_cast<std::int64_t>(tensors.size());
      break;
    }
    case ModelFormat::kHuggingFace:
      result.tensors = write_hugging_face(conversion, source, out, options, result.bytes);
      break;
    case ModelFormat::kGguf:
      result.tensors = write_gguf_model(conversion, source, out, options);
      break;
    case ModelFormat::kCheckpoint:
      result.tensors = write_checkpoint(conversion, source, out, options, result.bytes);
      break;
  }
  if (result.bytes == 0) result.bytes = size_of(out);
  result.notes = std::move(conversion.notes);
  return result;
}

}  // namespace rwkvx

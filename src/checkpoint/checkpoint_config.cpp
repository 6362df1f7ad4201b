#include "rwkvx/checkpoint/checkpoint_config.h"

#include <map>

#include "rwkvx/base/files.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/checkpoint/model_source.h"
#include "rwkvx/cores/parameters.h"

namespace rwkvx {
namespace fs = std::filesystem;

CheckpointConfig read_checkpoint_config(const std::filesystem::path& directory) {
  const auto path = (directory / kConfigFile).string();
  try {
    CheckpointConfig config;
    config.document = read_json_file(path);
    if (!config.document.is_object() || !config.document.contains("model"))
      throw CheckpointError(path, "has no section \"model\", so it is not a checkpoint config");
    config.model = config_from_json<ModelConfig>(config.document["model"], path + ": model",
                                                 OldNames::kSilent);
    check_model(config.model, path + ": model");
    if (config.model.vocab_size <= 0)
      throw CheckpointError(path + ": model.vocab_size", "must be above 0");
    if (config.document.contains("tokenizer")) {
      const auto& tokenizer = config.document["tokenizer"];
      if (!tokenizer.is_object())
        throw CheckpointError(path + ": tokenizer",
                              "expected an object, got " + json_shown(tokenizer));
      if (tokenizer.contains("hash"))
        config.tokenizer_hash = read_text(tokenizer["hash"], path + ": tokenizer.hash", "");
    }
    return config;
  } catch (const ConfigError& error) {
    throw CheckpointError("", error.what());
  }
}

namespace {

// Tensors by the type of their numbers, and the quantization that they amount to.
void describe_types(const TensorFile& file, nlohmann::ordered_json& info) {
  std::map<std::string, std::int64_t> counts;
  for (const auto& tensor : file.tensors()) ++counts[std::string(dtype_name(tensor.dtype))];
  info["dtype"] = dtype_name(file.at("emb.weight").dtype);
  auto& types = info["tensors"] = nlohmann::ordered_json::object();
  for (const auto& [name, count] : counts) types[name] = count;
  const auto written = file.metadata().find("weights");
  if (written != file.metadata().end())
    info["quantization"] = written->second;
  else if (counts.contains("I8") || counts.contains("U8"))
    info["quantization"] = "integers";
  else
    info["quantization"] = "none";
}

}  // namespace

nlohmann::ordered_json describe_checkpoint(const std::filesystem::path& path) {
  if (path.empty()) throw ConfigError("--model", "expected a path, got nothing");
  const auto source = open_model(path, Verification::kFiles);
  nlohmann::ordered_json info;
  info["path"] = source.path.string();
  info["parameters"] = parameter_count(source.config);
  info["weights"] = bytes_text(static_cast<double>(source.file.stored_bytes()));
  info["weights_hash"] = source.hash();
  describe_types(source.file, info);
  const bool checkpoint = source.kind == SourceKind::kCheckpoint;
  if (checkpoint) info["resumable"] = fs::exists(source.path / kTrainerFolder);
  info["model"] = config_to_json(source.config);
  if (!checkpoint && !source.tokenizer.empty())
    info["tokenizer"] = source.tokenizer.string();
  else if (!checkpoint && source.has_tokenizer())
    info["tokenizer"] = "in the file";
  for (const char* section : {"tokenizer", "provenance", "train", "data"})
    if (source.document.contains(section)) info[section] = source.document[section];
  return info;
}

}  // namespace rwkvx

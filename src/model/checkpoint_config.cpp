#include "rwkvx/model/checkpoint_config.h"

#include <set>

#include "rwkvx/base/files.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/model/checkpoint_directory.h"
#include "rwkvx/model/parameters.h"

namespace rwkvx {
namespace {

std::int64_t dimension(const TensorFile& file, const std::string& name, std::size_t index,
                       std::size_t rank) {
  const auto& tensor = file.at(name);
  if (tensor.shape.size() != rank)
    throw CheckpointError(
        file.path().string() + ": " + name,
        "wanted " + std::to_string(rank) + " dimensions, found " + shape_text(tensor.shape));
  return tensor.shape[index];
}

// The switches of the shift that a site's tensors show.
void infer_shift(const TensorFile& file, const std::string& site, ShiftConfig& shift) {
  const auto has = [&](const char* name) { return file.find(site + name) != nullptr; };
  if (has("conv"))
    shift.kernel = dimension(file, site + "conv", 0, 2);
  else
    shift.ablation = "gate_only";
  shift.pos = "none";
  if (has("pos_u")) shift.pos = dimension(file, site + "pos_u", 1, 2) == 8 ? "sin" : "exp";
  if (has("gate_w")) {
    shift.gate_groups = dimension(file, site + "gate_w", 0, 2);
    shift.gate = shift.gate_groups == 1 ? "scalar" : "group";
  } else if (has("gate_d")) {
    shift.gate = "lowrank";
    shift.gate_rank = dimension(file, site + "gate_d", 0, 2);
  } else if (!has("gate_b")) {
    shift.gate = "one";
  }
}

}  // namespace

CheckpointConfig read_checkpoint_config(const std::filesystem::path& directory) {
  const auto path = (directory / kConfigFile).string();
  try {
    CheckpointConfig config;
    config.document = read_json_file(path);
    if (!config.document.is_object() || !config.document.contains("model"))
      throw CheckpointError(path, "has no section \"model\", so it is no checkpoint's");
    config.model = config_from_json<ModelConfig>(config.document["model"], path + ": model");
    if (config.model.vocab_size <= 0)
      throw CheckpointError(path + ": model.vocab_size", "must be above 0");
    return config;
  } catch (const ConfigError& error) {
    throw CheckpointError("", error.what());
  }
}

ModelConfig infer_config(const TensorFile& file) {
  ModelConfig config;
  config.vocab_size = dimension(file, "emb.weight", 0, 2);
  config.n_embd = dimension(file, "emb.weight", 1, 2);
  config.dim_att = dimension(file, "blocks.0.att.key.weight", 0, 2);
  config.dim_ffn = dimension(file, "blocks.0.ffn.key.weight", 0, 2);
  config.n_layer = 0;
  while (file.find("blocks." + std::to_string(config.n_layer) + ".att.key.weight") != nullptr)
    ++config.n_layer;
  config.shift.kind = "none";
  std::set<std::string> sites;
  for (const auto& tensor : file.tensors())
    for (const std::string site : {"att", "ffn"})
      if (tensor.name.starts_with("blocks.0." + site + ".shift.")) sites.insert(site);
  if (sites.empty()) return config;
  config.shift.kind = "gps";
  config.shift.sites = sites.size() == 2 ? "af" : sites.contains("att") ? "a" : "f";
  infer_shift(file, "blocks.0." + *sites.begin() + ".shift.", config.shift);
  return config;
}

nlohmann::ordered_json describe_checkpoint(const std::filesystem::path& path) {
  nlohmann::ordered_json info;
  ModelConfig model;
  if (!std::filesystem::is_regular_file(path)) {
    const auto directory = open_checkpoint(resolve_checkpoint(path), Verification::kFiles);
    const auto config = read_checkpoint_config(directory.path);
    model = config.model;
    info["path"] = directory.path.string();
    info["parameters"] = parameter_count(model);
    info["weights"] = bytes_text(static_cast<double>(directory.files.at(kWeightsFile).size));
    info["weights_hash"] = directory.files.at(kWeightsFile).hash;
    info["resumable"] = directory.has_trainer();
    info["model"] = config_to_json(model);
    for (const char* section : {"tokenizer", "provenance", "train", "data"})
      if (config.document.contains(section)) info[section] = config.document[section];
    return info;
  }
  const auto file = open_tensors(path);
  model = infer_config(file);
  info["path"] = path.string();
  info["parameters"] = parameter_count(model);
  info["weights"] = bytes_text(static_cast<double>(std::filesystem::file_size(path)));
  info["weights_hash"] = hash_file(path);
  info["dtype"] = dtype_name(file.at("emb.weight").dtype);
  info["model"] = config_to_json(model);
  return info;
}

}  // namespace rwkvx

#include "rwkvx/model/checkpoint_config.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "rwkvx/base/files.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/model/checkpoint_directory.h"
#include "rwkvx/model/open_tensors.h"
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

// The highest number of a block, so that one that is missing below it is named.
std::int64_t highest_block(const TensorFile& file) {
  constexpr std::string_view kBlocks = "blocks.";
  std::int64_t highest = 0;
  for (const auto& tensor : file.tensors()) {
    const std::string_view name = tensor.name;
    if (!name.starts_with(kBlocks)) continue;
    std::int64_t number = 0;
    const auto [end, error] =
        std::from_chars(name.data() + kBlocks.size(), name.data() + name.size(), number);
    if (error != std::errc() || end == name.data() + name.size() || *end != '.') continue;
    if (number < 0 || number >= static_cast<std::int64_t>(file.tensors().size()))
      throw CheckpointError(file.path().string() + ": " + tensor.name,
                            "is of a block whose number is above that of all tensors");
    highest = std::max(highest, number);
  }
  return highest;
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

ModelConfig infer_config(const TensorFile& file) {
  ModelConfig config;
  config.vocab_size = dimension(file, "emb.weight", 0, 2);
  config.n_embd = dimension(file, "emb.weight", 1, 2);
  config.dim_att = dimension(file, "blocks.0.att.key.weight", 0, 2);
  config.dim_ffn = dimension(file, "blocks.0.ffn.key.weight", 0, 2);
  config.n_layer = highest_block(file) + 1;
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
  nlohmann::ordered_json info;
  ModelConfig model;
  std::error_code unreadable;
  if (!std::filesystem::is_regular_file(path, unreadable)) {
    const auto directory = open_checkpoint(resolve_checkpoint(path), Verification::kFiles);
    const auto config = read_checkpoint_config(directory.path);
    const auto file = open_tensors(directory.weights());
    model = config.model;
    info["path"] = directory.path.string();
    info["parameters"] = parameter_count(model);
    info["weights"] = bytes_text(static_cast<double>(directory.files.at(kWeightsFile).size));
    info["weights_hash"] = directory.files.at(kWeightsFile).hash;
    describe_types(file, info);
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
  describe_types(file, info);
  info["model"] = config_to_json(model);
  return info;
}

}  // namespace rwkvx

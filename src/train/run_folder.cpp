#include "train/run_folder.h"

#include <torch/types.h>

#include <cmath>
#include <fstream>

#include "rwkvx/base/files.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/version.h"
#include "rwkvx/model/checkpoint.h"
#include "rwkvx/model/checkpoint_directory.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;

constexpr char kStateFile[] = "state.json";
constexpr char kMomentsFile[] = "moments.safetensors";

// JSON has no infinity: a loss that was never measured is null.
nlohmann::ordered_json finite_or_null(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json();
}

// Names the first setting in which two sections differ, "" where none does.
std::string first_difference(const nlohmann::json& a, const nlohmann::json& b,
                             const std::string& path) {
  for (const auto& item : a.items()) {
    const std::string key = path + "." + item.key();
    const auto other = b.contains(item.key()) ? b[item.key()] : nlohmann::json();
    if (item.value().is_object() && other.is_object()) {
      const auto inner = first_difference(item.value(), other, key);
      if (!inner.empty()) return inner;
    } else if (item.value() != other) {
      return key + " was " + item.value().dump() + " and is " + other.dump();
    }
  }
  return "";
}

// What a trained tokenizer depends on.
std::string training_key(const TrainConfig& config, const std::vector<std::string>& pieces) {
  Hasher hasher;
  hasher.add(config_to_json(config.tokenizer).dump());
  for (const auto& piece : pieces) {
    hasher.add(std::to_string(piece.size()) + ":");
    hasher.add(piece);
  }
  return hasher.hex();
}

}  // namespace

std::unique_ptr<Tokenizer> prepare_tokenizer(const TrainConfig& config, bool quiet) {
  const auto& settings = config.tokenizer;
  if (!settings.path.empty()) {
    auto tokenizer = load_tokenizer(settings.path);
    if (tokenizer->kind() != settings.kind)
      throw ConfigError("tokenizer.kind", "is " + settings.kind + ", but " + settings.path +
                                              " is a " + tokenizer->kind() + " tokenizer");
    return tokenizer;
  }
  if (settings.kind == "byte") return make_byte_tokenizer();
  if (settings.kind == "world")
    throw ConfigError("tokenizer.path", "the world tokenizer needs its vocabulary file");
  if (config.data.train.empty())
    throw ConfigError("data.train", "names no text, wanted one or more .txt or .jsonl files");
  const auto folder = fs::path(config.train.output) / kTokenizerFolder;
  const auto pieces = read_pieces(config.data.train, config.data, training_part(config.data));
  const auto key = training_key(config, pieces);
  std::error_code ignored;
  if (fs::exists(folder / "trained-on", ignored) && read_file(folder / "trained-on") == key)
    return load_tokenizer(folder);
  if (!quiet)
    log_info("training a " + settings.algorithm + " tokenizer of " +
             std::to_string(settings.vocab_size) + " pieces");
  auto tokenizer =
      train_sentencepiece(pieces, {settings.vocab_size, settings.algorithm, settings.coverage});
  fs::remove_all(folder);
  fs::create_directories(folder);
  tokenizer->save(folder);
  write_file(folder / "trained-on", key);
  return tokenizer;
}

RunFolder::RunFolder(const TrainConfig& config, const Tokenizer& tokenizer, const TokenSets& tokens)
    : config_(config), tokenizer_(tokenizer), tokens_(tokens) {}

fs::path RunFolder::checkpoints() const {
  return fs::path(config_.train.output) / kCheckpointsFolder;
}

void RunFolder::prepare(const TrainOptions& options) const {
  const auto existing = list_checkpoints(checkpoints());
  if (!existing.empty() && !options.resume && !options.overwrite)
    throw ConfigError(config_.train.output,
                      "already holds a run (" + existing.back().name +
                          "): go on with --resume, start again with --overwrite, or choose another "
                          "--output");
  if (options.overwrite && !options.resume)
    for (const auto& entry : existing) remove_checkpoint(entry.path);
  fs::create_directories(checkpoints());
  write_file(fs::path(config_.train.output) / kConfigFile, config_to_json(config_).dump(2) + "\n");
}

bool RunFolder::restore(RwkvImpl& model, Optimizer& optimizer, Progression& progress) const {
  const auto newest = latest_checkpoint(checkpoints());
  if (!newest) return false;
  const auto directory = open_checkpoint(*newest, Verification::kTensors);
  const auto saved = read_checkpoint_config(directory.path);
  const auto difference = first_difference(nlohmann::json(config_to_json(saved.model)),
                                           nlohmann::json(config_to_json(model.config())), "model");
  if (!difference.empty())
    throw ConfigError(newest->string(), "is of another model: " + difference);
  if (saved.tokenizer_hash != tokenizer_.hash())
    throw ConfigError(newest->string(), "was trained with another tokenizer");
  if (!directory.has_trainer())
    throw CheckpointError(newest->string(), "holds no trainer state, so it cannot be resumed from");
  load_weights(model, open_tensors(directory.weights()));
  const SafetensorsFile moments(directory.trainer() / kMomentsFile);
  for (const auto& [name, tensor] : optimizer.moments()) {
    const auto value = tensor_of(moments.at(name));
    if (value.sizes() != tensor.sizes())
      throw CheckpointError(moments.path().string() + ": " + name,
                            "wanted shape " + shape_text(tensor.sizes().vec()) + ", found " +
                                shape_text(value.sizes().vec()));
    tensor.copy_(value);
  }
  try {
    const auto state = read_json_file((directory.trainer() / kStateFile).string());
    progress.step = state.at("step");
    progress.best_step = state.at("best_step");
    if (!state.at("best_valid_loss").is_null()) progress.best_valid_loss = state["best_valid_loss"];
    if (!state.at("valid_loss").is_null()) progress.valid_loss = state["valid_loss"];
  } catch (const nlohmann::json::exception&) {
    throw CheckpointError((directory.trainer() / kStateFile).string(),
                          "is not the state of a training run");
  }
  optimizer.set_steps(progress.step);
  return true;
}

void RunFolder::write_model(const fs::path& folder, const RwkvImpl& model,
                            const Progression& progress) const {
  write_safetensors(folder / kWeightsFile, weight_views(model).views, {{"format", "rwkvx"}});
  fs::create_directories(folder / kTokenizerFolder);
  tokenizer_.save(folder / kTokenizerFolder);
  nlohmann::ordered_json document;
  document["format"] = "rwkvx checkpoint 1";
  document["model"] = config_to_json(model.config());
  document["tokenizer"] = {{"kind", tokenizer_.kind()},
                           {"vocab_size", tokenizer_.vocab_size()},
                           {"hash", tokenizer_.hash()}};
  document["data"] = config_to_json(config_.data);
  document["train"] = config_to_json(config_.train);
  document["provenance"] = {{"step", progress.step},
                            {"tokens", progress.step * config_.train.accumulation *
                                           config_.train.batch_size * config_.train.ctx_len},
                            {"valid_loss", finite_or_null(progress.valid_loss)},
                            {"train_text", tokens_.train_manifest.hash},
                            {"valid_text", tokens_.valid_manifest.hash},
                            {"seed", config_.train.seed},
                            {"version", version()},
                            {"build", build_id()}};
  write_file(folder / kConfigFile, document.dump(2) + "\n");
}

fs::path RunFolder::save(const RwkvImpl& model, const Optimizer& optimizer,
                         const Progression& progress) const {
  const auto path = checkpoints() / step_name(progress.step);
  CheckpointWriter writer(path);
  write_model(writer.path(), model, progress);
  const auto trainer = writer.path() / kTrainerFolder;
  fs::create_directories(trainer);
  HostTensors moments;
  for (const auto& [name, tensor] : optimizer.moments()) moments.add(name, tensor);
  write_safetensors(trainer / kMomentsFile, moments.views);
  nlohmann::ordered_json state;
  state["step"] = progress.step;
  state["best_step"] = progress.best_step;
  state["best_valid_loss"] = finite_or_null(progress.best_valid_loss);
  state["valid_loss"] = finite_or_null(progress.valid_loss);
  write_file(trainer / kStateFile, state.dump(2) + "\n");
  writer.commit();

  // What lies above this step is of a run that was gone back on, or it could not be read; it goes,
  // so that it never counts as one of the last.
  std::vector<fs::path> before;
  for (const auto& entry : list_checkpoints(checkpoints())) {
    if (!entry.step || *entry.step == progress.step) continue;
    if (*entry.step > progress.step || !entry.complete)
      remove_checkpoint(entry.path);
    else
      before.push_back(entry.path);
  }
  const auto keep = static_cast<size_t>(config_.train.keep_last) - 1;
  for (size_t i = 0; i + keep < before.size(); ++i) remove_checkpoint(before[i]);
  return path;
}

void RunFolder::save_best(const RwkvImpl& model, const Progression& progress) const {
  CheckpointWriter writer(checkpoints() / kBestName);
  write_model(writer.path(), model, progress);
  writer.commit();
}

void RunFolder::cut_log(std::int64_t step) const {
  const auto path = fs::path(config_.train.output) / "log.jsonl";
  std::string kept;
  std::ifstream before(path);
  for (std::string line; std::getline(before, line);) {
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (json.is_object() && json.contains("step") && json["step"].is_number_integer() &&
        json["step"].get<std::int64_t>() <= step)
      kept += line + "\n";
  }
  write_file(path, kept);
}

void RunFolder::log(const nlohmann::ordered_json& line) const {
  const auto path = fs::path(config_.train.output) / "log.jsonl";
  std::ofstream file(path, std::ios::app);
  file << line.dump() << "\n" << std::flush;
  if (!file) throw FileError(path.string(), "cannot append to the log");
}

}  // namespace rwkvx

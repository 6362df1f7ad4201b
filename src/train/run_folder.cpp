#include "train/run_folder.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <string_view>

#include "rwkvx/base/files.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/version.h"
#include "rwkvx/checkpoint/checkpoint_directory.h"
#include "rwkvx/cores/names.h"
#include "rwkvx/data/supervised.h"
#include "rwkvx/formats/safetensors.h"
#include "rwkvx/model/checkpoint.h"
#include "train/changed_settings.h"
#include "train/ema.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;

static_assert(kLeastPieces == kLeastSentencePieces);

constexpr char kStateFile[] = "state.json";
constexpr char kMomentsFile[] = "moments.safetensors";
constexpr char kAveragesFile[] = "ema.safetensors";
// Beside the checkpoints: the newest one's averages as a model.
constexpr char kAveragesName[] = "ema";
constexpr char kLogFile[] = "log.jsonl";
// Beside a tokenizer that was trained in a run's folder: what it was trained on.
constexpr char kTrainedOnFile[] = "trained-on";
constexpr char kUnfinished[] = "unfinished";

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

// Fills tensors from a file that holds each under its name.
void copy_tensors(const TensorFile& file, const NamedTensors& tensors) {
  for (const auto& [name, tensor] : tensors) {
    const auto value = tensor_of(file.at(name));
    if (value.sizes() != tensor.sizes())
      throw CheckpointError(file.path().string() + ": " + name,
                            "expected shape " + shape_text(tensor.sizes().vec()) + ", got " +
                                shape_text(value.sizes().vec()));
    tensor.copy_(value);
  }
}

void write_tensors(const fs::path& path, const NamedTensors& tensors) {
  HostTensors host;
  for (const auto& [name, tensor] : tensors) host.add(name, tensor);
  write_safetensors(path, host.views);
}

// What a trained tokenizer depends on.
std::string training_key(const TrainConfig& config, const std::vector<std::string>& pieces) {
  Hasher hasher;
  hasher.add(settings_key(config.tokenizer).dump());
  for (const auto& piece : pieces) {
    hasher.add(std::to_string(piece.size()) + ":");
    hasher.add(piece);
  }
  return hasher.hex();
}

void make_directory(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw FileError(path.string(), "cannot make the directory: " + error.message());
}

// The first line of a file with its line end, if it has one; empty where there is no such file.
std::string first_line(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return "";
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return "";
  return file.eof() ? line : line + "\n";
}

// Throws ConfigError where the files that a run writes are there and of something else.
void refuse_foreign_files(const fs::path& output) {
  const auto refuse = [](const fs::path& path, const std::string& what) {
    throw ConfigError(path.string(), "already exists and is not the " + what +
                                         " of a training run, so it is not replaced; choose "
                                         "another --output");
  };
  std::error_code ignored;
  if (const auto path = output / kConfigFile; fs::exists(path, ignored)) {
    const auto json = parse_json_or_null(read_file(path));
    const auto section = [&](const char* name) {
      return json.is_object() && json.contains(name) && json[name].is_object();
    };
    // A checkpoint's has a format.
    if (!section("model") || !section("train") || json.contains("format")) refuse(path, "config");
  }
  constexpr std::string_view kBegin = "{\"step\":";
  const auto log = output / kLogFile;
  if (const auto line = first_line(log); !line.starts_with(kBegin) && !kBegin.starts_with(line))
    refuse(log, "log");
}

}  // namespace

PreparedTokenizer prepare_tokenizer(const TrainConfig& config, const fs::path& folder, bool quiet) {
  const auto& settings = config.tokenizer;
  if (!settings.path.empty()) {
    auto tokenizer = load_tokenizer(settings.path);
    if (tokenizer->kind() != enum_name(settings.kind))
      throw ConfigError("tokenizer.kind", "is " + enum_name(settings.kind) + ", but " +
                                              settings.path + " is a " + tokenizer->kind() +
                                              " tokenizer");
    return {std::move(tokenizer), ""};
  }
  if (settings.kind == TokenizerKind::kByte) return {make_byte_tokenizer(), ""};
  if (settings.kind == TokenizerKind::kIds)
    return {
        make_ids_tokenizer(settings.vocab_size,
                           settings.document_end < 0 ? settings.vocab_size : settings.document_end),
        ""};
  if (settings.kind == TokenizerKind::kWorld)
    throw ConfigError("tokenizer.path", "the world tokenizer needs its vocabulary file");
  if (settings.kind == TokenizerKind::kHuggingFace)
    throw ConfigError("tokenizer.path", "the huggingface tokenizer needs its tokenizer.json");
  if (config.data.train.empty())
    throw ConfigError("data.train",
                      "names no text; expected one or more files, directories or patterns");
  std::error_code ignored;
  const bool there = fs::exists(folder / kTrainedOnFile, ignored);
  if (!there && fs::exists(folder, ignored) && !fs::is_empty(folder, ignored))
    throw ConfigError(folder.string(),
                      "already exists and was not trained by a run, so it is not replaced; name it "
                      "with tokenizer.path, or choose another --output");
  // All of the text is looked at before minutes are spent on the tokenizer.
  if (config.data.format == DataFormat::kText) {
    check_lines(config.data.train, config.data, config.train.threads);
    check_lines(config.data.valid, config.data, config.train.threads);
  }
  const auto part = training_part(config.data);
  const auto pieces = config.data.format == DataFormat::kText
                          ? read_pieces(config.data.train, config.data, part)
                          : supervised_texts(config.data.train, config.data, part);
  const auto key = training_key(config, pieces);
  if (there && read_file(folder / kTrainedOnFile) == key) return {load_tokenizer(folder), ""};
  if (!quiet)
    log_info("training a " + enum_name(settings.model_type) + " tokenizer of " +
             std::to_string(settings.vocab_size) + " pieces");
  return {train_sentencepiece(pieces, {settings.vocab_size, enum_name(settings.model_type),
                                       settings.character_coverage}),
          key};
}

PreparedTokenizer read_prepared_tokenizer(const TrainConfig& config, const fs::path& folder) {
  const auto& settings = config.tokenizer;
  if (settings.path.empty() && settings.kind == TokenizerKind::kSentencePiece)
    return {load_tokenizer(folder), ""};
  return prepare_tokenizer(config, folder, /*quiet=*/true);
}

void save_trained(const PreparedTokenizer& prepared, const fs::path& folder) {
  if (prepared.trained_on.empty()) return;
  make_directory(folder);
  // Whatever interrupts this, the folder is known to be of a run, and to be of no use.
  write_file(folder / kTrainedOnFile, kUnfinished);
  prepared.tokenizer->save(folder);
  write_file(folder / kTrainedOnFile, prepared.trained_on);
}

bool holds_run(const fs::path& output) {
  return !list_checkpoints(output / kCheckpointsFolder).empty() ||
         first_line(output / kLogFile).find('\n') != std::string::npos;
}

nlohmann::json progression_to_json(const Progression& progress) {
  return {{"step", progress.step},
          {"tokens", progress.tokens},
          {"next_batch", progress.next_batch},
          {"valid_loss", progress.valid_loss},
          {"ema_valid_loss", progress.ema_valid_loss},
          {"guard", guard_to_json(progress.guard)},
          {"best",
           {{"step", progress.best.step},
            {"valid_loss", progress.best.valid_loss},
            {"rouge_l", progress.best.rouge_l},
            {"without_better", progress.best.without_better},
            {"of", progress.best.of}}}};
}

Progression progression_from_json(const nlohmann::json& json) {
  Progression progress;
  json.at("step").get_to(progress.step);
  json.at("tokens").get_to(progress.tokens);
  json.at("next_batch").get_to(progress.next_batch);
  json.at("valid_loss").get_to(progress.valid_loss);
  json.at("ema_valid_loss").get_to(progress.ema_valid_loss);
  progress.guard = guard_from_json(json.at("guard"));
  const auto& best = json.at("best");
  best.at("step").get_to(progress.best.step);
  best.at("valid_loss").get_to(progress.best.valid_loss);
  best.at("rouge_l").get_to(progress.best.rouge_l);
  best.at("without_better").get_to(progress.best.without_better);
  best.at("of").get_to(progress.best.of);
  return progress;
}

RunFolder::RunFolder(const fs::path& output, const TrainOptions& options)
    : output_(output), made_(output), lock_(FileLock::of_directory(output)) {
  look(options);
}

void RunFolder::look(const TrainOptions& options) {
  refuse_foreign_files(output_);
  if (!holds_run(output_)) {
    if (options.resume && !options.quiet)
      log_info("no checkpoint in " + output_.string() + ", starting at step 0");
    return;
  }
  const auto existing = list_checkpoints(checkpoints());
  if (!options.resume && !options.overwrite)
    throw ConfigError(
        output_.string(),
        "already holds a run (" +
            (existing.empty() ? std::string(kLogFile) : existing.back().name) +
            "): resume it with --resume, start again with --overwrite, or choose another "
            "--output");
  if (options.resume) {
    resume_from_ =
        latest_checkpoint(checkpoints(), std::numeric_limits<std::int64_t>::max(), &damaged_);
    if (resume_from_) return;
    std::string found;
    for (const auto& damaged : damaged_) found += "; " + damaged.reason;
    if (damaged_.empty())
      found = existing.empty() ? "; its log has steps, but no checkpoint was saved"
                               : "; " + existing.back().name + " has no trainer state";
    if (!options.overwrite)
      throw CheckpointError(output_.string(),
                            "holds a run, but no intact checkpoint to resume from" + found +
                                "; start again at step 0 with --overwrite, or choose another "
                                "--output");
    log_warning(output_.string() + " holds no intact checkpoint to resume from" + found +
                "; starting again at step 0");
    damaged_.clear();
  }
  for (const auto& entry : existing)
    if (!looks_like_checkpoint(entry.path))
      throw ConfigError(entry.path.string(),
                        "is not a checkpoint, so it is not removed; move it, or choose another "
                        "--output");
}

void RunFolder::restore(RwkvImpl& model, Optimizer& optimizer, const Tokenizer& tokenizer,
                        const TrainConfig& config, Progression& progress) {
  const auto& newest = resume_from_;
  const auto directory = open_checkpoint(*newest, Verification::kTensors);
  const auto saved = read_checkpoint_config(directory.path);
  const auto difference = first_difference(nlohmann::json(config_to_json(saved.model)),
                                           nlohmann::json(config_to_json(model.config())), "model");
  if (!difference.empty())
    throw ConfigError(newest->string(), "is of another model: " + difference);
  if (saved.tokenizer_hash != tokenizer.hash())
    throw ConfigError(newest->string(), "was trained with another tokenizer");
  if (!directory.has_trainer())
    throw CheckpointError(newest->string(), "holds no trainer state, so it cannot be resumed from");
  const auto changes = changed_settings(saved.document, config);
  refuse_fixed_settings(changes, newest->string());
  if (!changes.empty())
    log_warning("resuming " + newest->string() + " with other settings: " + changes_text(changes));
  provenance_ = saved.document.value("provenance", nlohmann::json::object());
  load(directory, saved.document, model, optimizer, progress);
  const auto entries = list_checkpoints(checkpoints());
  const bool best = std::any_of(entries.begin(), entries.end(), [](const auto& entry) {
    return entry.name == kBestName && entry.complete;
  });
  if (progress.best.step == 0 || best) return;
  log_warning((checkpoints() / kBestName).string() +
              " is missing or damaged; the next validation writes it anew");
  progress.best = BestSoFar();
}

void RunFolder::load(const CheckpointDirectory& directory, const nlohmann::json& document,
                     RwkvImpl& model, Optimizer& optimizer, Progression& progress) const {
  load_weights(model, open_tensors(directory.weights()));
  const auto moments = read_safetensors(directory.trainer() / kMomentsFile);
  optimizer.set_moments([&](const auto& tensors) { copy_tensors(moments, tensors); });
  if (auto* ema = optimizer.ema(); ema != nullptr) {
    if (const auto path = directory.trainer() / kAveragesFile; fs::exists(path)) {
      copy_tensors(read_safetensors(path), ema->state());
    } else {
      ema->begin();
      log_warning("train.ema_decay: " + directory.path.string() +
                  " holds no averages, so they begin with its weights");
    }
  }
  try {
    const auto state = read_json_file((directory.trainer() / kStateFile).string());
    progress.step = state.at("step");
    // States of earlier versions have neither: all steps were alike.
    const auto& train = document.at("train");
    const std::int64_t batches =
        progress.step *
        train.value("grad_accum_steps", train.value("accumulation", std::int64_t{1}));
    progress.next_batch = state.value("next_batch", batches);
    progress.tokens =
        state.value("trained_tokens", batches * train.at("batch_size").get<std::int64_t>() *
                                          train.at("ctx_len").get<std::int64_t>());
    progress.best.step = state.at("best_step");
    progress.best.rouge_l = state.value("best_rouge_l", -1.0);
    progress.best.without_better = state.value("validations_without_better", std::int64_t{0});
    if (!state.at("best_valid_loss").is_null()) progress.best.valid_loss = state["best_valid_loss"];
    if (!state.at("valid_loss").is_null()) progress.valid_loss = state["valid_loss"];
    if (const auto ema = state.find("ema_valid_loss"); ema != state.end() && !ema->is_null())
      progress.ema_valid_loss = *ema;
    if (const auto guard = state.find("guard"); guard != state.end())
      progress.guard = guard_from_json(*guard);
    progress.best.of = state.value(
        "best_of",
        validation_key(
            document.value("provenance", nlohmann::json::object()).value("valid_text", ""),
            train.value("eval_tokens", TrainingConfig().eval_tokens)));
  } catch (const nlohmann::json::exception&) {
    throw CheckpointError((directory.trainer() / kStateFile).string(),
                          "is not the state of a training run");
  }
  optimizer.set_steps(progress.step);
}

void RunFolder::check_texts(const TokenSets& tokens, const TrainConfig& config,
                            Progression& progress) const {
  if (!resume_from_) return;
  const auto before = provenance_.value("train_text", "");
  if (!before.empty() && before != tokens.train_manifest.hash)
    throw ConfigError("data.train",
                      "is another text than that of " + resume_from_->string() +
                          ", or is read in another way; a resumed run cannot change it; set it "
                          "back, or begin a new run with train.init_from = " +
                          resume_from_->string());
  const auto key = validation_key(tokens.valid_manifest.hash, config.train.eval_tokens);
  if (progress.best.of != key && progress.best.step > 0) {
    log_warning(
        "the validation text or eval_tokens is another one than that of the best loss so "
        "far, which is not compared: the next validation begins a new " +
        (checkpoints() / kBestName).string());
    progress.best = BestSoFar();
    progress.valid_loss = std::numeric_limits<double>::quiet_NaN();
  }
}

void RunFolder::begin(const TrainConfig& config, const Tokenizer& tokenizer,
                      const TokenSets& tokens, const Progression& progress) {
  config_ = config;
  tokenizer_ = &tokenizer;
  tokens_ = &tokens;
  make_directory(checkpoints());
  clean_up_checkpoints(checkpoints());
  remove_leftovers(output_);
  if (!resume_from_)
    for (const auto& entry : list_checkpoints(checkpoints())) remove_checkpoint(entry.path);
  if (const auto averages = checkpoints() / kAveragesName;
      (!resume_from_ || config_.train.ema_decay == 0) && fs::exists(averages) &&
      looks_like_checkpoint(averages))
    remove_checkpoint(averages);
  for (const auto& damaged : damaged_)
    log_warning(damaged.reason + "; resuming from " + resume_from_->filename().string() +
                " instead, and the damaged one is set aside as " +
                set_aside(damaged.path, "damaged").string());
  write_file(output_ / kConfigFile, config_to_json(config_).dump(2) + "\n");
  if (resume_from_)
    cut_log(progress);
  else
    write_file(output_ / kLogFile, "");
  log_.emplace(output_ / kLogFile);
  log_->cut();
}

void RunFolder::write_model(const fs::path& folder, const RwkvImpl& model,
                            const Progression& progress, std::string_view weights,
                            const Adapter* adapter) const {
  if (adapter != nullptr) write_adapter(folder / kAdapterFile, *adapter);
  write_safetensors(folder / kWeightsFile, weight_views(model).views, {{"format", "rwkvx"}});
  fs::create_directories(folder / kTokenizerFolder);
  tokenizer_->save(folder / kTokenizerFolder);
  nlohmann::ordered_json document;
  document["format"] = "rwkvx checkpoint 1";
  document["model"] = config_to_json(model.config());
  document["tokenizer"] = {{"kind", tokenizer_->kind()},
                           {"vocab_size", tokenizer_->vocab_size()},
                           {"hash", tokenizer_->hash()}};
  document["data"] = config_to_json(config_.data);
  document["train"] = config_to_json(config_.train);
  document["provenance"] = {{"step", progress.step},
                            {"tokens", progress.tokens},
                            {"valid_loss", finite_or_null(progress.valid_loss)},
                            {"train_text", tokens_->train_manifest.hash},
                            {"valid_text", tokens_->valid_manifest.hash},
                            {"seed", config_.train.seed},
                            {"version", version()},
                            {"build", build_id()}};
  if (!weights.empty()) document["provenance"]["weights"] = weights;
  write_file(folder / kConfigFile, document.dump(2) + "\n");
}

fs::path RunFolder::save(const RwkvImpl& model, const Optimizer& optimizer,
                         const Optimizer::Tensors& moments, const Progression& progress,
                         std::int64_t good, const Adapter* adapter) const {
  const auto path = checkpoints() / step_name(progress.step);
  CheckpointWriter writer(path);
  write_model(writer.path(), model, progress, "", adapter);
  const auto trainer = writer.path() / kTrainerFolder;
  fs::create_directories(trainer);
  write_tensors(trainer / kMomentsFile, moments);
  if (optimizer.ema() != nullptr) write_tensors(trainer / kAveragesFile, optimizer.ema()->state());
  nlohmann::ordered_json state;
  state["step"] = progress.step;
  state["trained_tokens"] = progress.tokens;
  state["next_batch"] = progress.next_batch;
  state["best_step"] = progress.best.step;
  state["best_valid_loss"] = finite_or_null(progress.best.valid_loss);
  state["valid_loss"] = finite_or_null(progress.valid_loss);
  if (config_.train.eval_generate > 0) state["best_rouge_l"] = progress.best.rouge_l;
  if (config_.train.patience > 0)
    state["validations_without_better"] = progress.best.without_better;
  if (optimizer.ema() != nullptr) state["ema_valid_loss"] = finite_or_null(progress.ema_valid_loss);
  if (guarded(config_.train)) state["guard"] = guard_to_json(progress.guard);
  state["best_of"] = validation_key(tokens_->valid_manifest.hash, config_.train.eval_tokens);
  write_file(trainer / kStateFile, state.dump(2) + "\n");
  writer.commit();
  prune(good);
  return path;
}

bool RunFolder::regular(const CheckpointEntry& entry) const {
  const auto every = config_.train.save_every;
  return entry.step && entry.complete && every > 0 && *entry.step % every == 0;
}

std::optional<fs::path> RunFolder::roll_back(std::int64_t good, RwkvImpl& model,
                                             Optimizer& optimizer, Progression& progress) {
  std::optional<fs::path> target;
  for (const auto& entry : list_checkpoints(checkpoints()))
    if (regular(entry) && *entry.step <= good) target = entry.path;
  if (!target) return std::nullopt;
  auto earlier = progress;
  const auto directory = open_checkpoint(*target, Verification::kTensors);
  load(directory, read_checkpoint_config(directory.path).document, model, optimizer, earlier);
  // The data, the guards and the best checkpoint are where they are.
  earlier.next_batch = progress.next_batch;
  earlier.guard.used = progress.guard.used;
  earlier.best = progress.best;
  progress = earlier;
  log_.reset();
  cut_log(progress);
  log_.emplace(output_ / kLogFile);
  log_->cut();
  return target;
}

void RunFolder::prune(std::int64_t good) const {
  std::vector<CheckpointEntry> steps;
  std::int64_t last_good = -1, last_regular = -1;
  for (const auto& entry : list_checkpoints(checkpoints())) {
    if (!entry.step || !entry.complete) continue;
    steps.push_back(entry);
    if (*entry.step > good) continue;
    last_good = *entry.step;
    if (config_.train.on_spike == OnSpike::kRollback && regular(entry)) last_regular = last_good;
  }
  const auto keep = static_cast<std::size_t>(config_.train.keep_last);
  for (std::size_t i = 0; i + keep < steps.size(); ++i)
    if (*steps[i].step != last_good && *steps[i].step != last_regular)
      remove_checkpoint(steps[i].path);
}

void RunFolder::save_best(const RwkvImpl& model, const Progression& progress,
                          std::string_view weights, const Adapter* adapter) const {
  CheckpointWriter writer(checkpoints() / kBestName);
  write_model(writer.path(), model, progress, weights, adapter);
  writer.commit();
}

void RunFolder::save_averages(const RwkvImpl& model, const Progression& progress,
                              const Adapter* adapter) const {
  CheckpointWriter writer(checkpoints() / kAveragesName);
  write_model(writer.path(), model, progress, "ema", adapter);
  writer.commit();
}

// A guard's line counts by the batch that it was about, as its step is taken again.
void RunFolder::cut_log(const Progression& progress) const {
  const auto path = output_ / kLogFile;
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return;
  const auto before = read_file(path);
  std::string kept;
  for (std::size_t begin = 0, end; (end = before.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    const auto line = before.substr(begin, end + 1 - begin);
    const auto json = parse_json_or_null(line);
    const auto number = [&](const char* name, std::int64_t otherwise) {
      return json.is_object() && json.contains(name) && json[name].is_number_integer()
                 ? json[name].get<std::int64_t>()
                 : otherwise;
    };
    const bool later = json.is_object() && json.contains("guard")
                           ? number("batch", 0) >= progress.next_batch
                           : number("step", 0) > progress.step;
    if (!later) kept += line;
  }
  if (kept.size() < before.size()) write_file(path, kept);
}

void RunFolder::log(const nlohmann::ordered_json& line) { log_->append(json_dump(line) + "\n"); }

}  // namespace rwkvx

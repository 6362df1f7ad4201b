#include "rwkvx/study/runner.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <chrono>
#include <csignal>
#include <nlohmann/json.hpp>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/lock.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/statistics.h"
#include "rwkvx/base/version.h"
#include "rwkvx/checkpoint/checkpoint_config.h"
#include "rwkvx/checkpoint/checkpoint_directory.h"
#include "rwkvx/cores/parameters.h"
#include "rwkvx/data/batcher.h"
#include "rwkvx/data/corpus.h"
#include "rwkvx/data/supervised.h"
#include "rwkvx/eval/pairs.h"
#include "rwkvx/model/checkpoint.h"
#include "rwkvx/study/names.h"
#include "rwkvx/train/trainer.h"
#include "study/answers.h"
#include "study/probes.h"

namespace rwkvx {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

// Owns a directory, created if missing; waits while another process does. Cells share data sets,
// and several processes may work on one study.
class OwnedFolder {
 public:
  explicit OwnedFolder(const std::filesystem::path& folder)
      : made_(folder), lock_(FileLock::wait_for_directory(folder)) {}

 private:
  MadeDirectories made_;
  FileLock lock_;
};

// The tokenizer of a data set: one for all of its cells, trained on its training text if need be.
TokenizerConfig shared_tokenizer(const TokenizerConfig& config, const DataSet& data,
                                 const std::function<std::vector<std::string>()>& pieces) {
  TokenizerConfig shared = config;
  if (config.kind != TokenizerKind::kSentencePiece || !config.path.empty()) return shared;
  const auto folder = data.folder / "tokenizer";
  const OwnedFolder owned(data.folder);
  // tokenizer.json is written last.
  if (!std::filesystem::exists(folder / "tokenizer.json")) {
    const auto tokenizer = train_sentencepiece(
        pieces(), {config.vocab_size, enum_name(config.model_type), config.character_coverage});
    std::filesystem::create_directories(folder);
    tokenizer->save(folder);
  }
  shared.path = folder.string();
  return shared;
}

// Builds the token files of a data set where they are not there, one process at a time.
// config.tokenizer and config.data are set.
void build_shared_tokens(const TrainConfig& config, const DataSet& data) {
  const OwnedFolder owned(data.folder);
  const auto tokenizer =
      config.tokenizer.path.empty() ? make_byte_tokenizer() : load_tokenizer(config.tokenizer.path);
  build_token_sets(config.data, *tokenizer, config.data.cache, config.train.threads,
                   /*quiet=*/true);
}

// Losses of the windows of the test text that training validates on: their means, in order.
std::vector<double> window_losses(RwkvImpl& model, const TokenFile& tokens, std::int64_t ctx_len,
                                  std::int64_t count) {
  const torch::NoGradGuard no_grad;
  const EvaluationBatches windows(tokens, ctx_len, /*batch_size=*/1, count);
  std::vector<double> losses;
  for (std::int64_t i = 0; i < windows.batches(); ++i) {
    const auto T = windows.shape(i).length;
    auto inputs = torch::empty({1, T}, torch::kInt64), targets = torch::empty({T}, torch::kInt64);
    windows.fill(i, inputs.mutable_data_ptr<std::int64_t>(),
                 targets.mutable_data_ptr<std::int64_t>());
    auto state = model.start(1);
    const auto logits = model.forward(inputs, state).squeeze(0);  // (T, V)
    losses.push_back(at::cross_entropy_loss(logits, targets).item<double>());
  }
  return losses;
}

// Of a result's content, whatever the order of its members.
std::string checksum_of(const json& result) { return hash_bytes(json_dump(result)); }

// What log.jsonl says of the training: the losses as text, so that equal means equal bits.
ordered_json training_log(const std::filesystem::path& path) {
  auto steps = ordered_json::array(), losses = ordered_json::array();
  std::vector<double> speeds;
  LineReader reader(path);
  for (std::string line; line.clear(), reader.append(line);) {
    const auto where = path.string() + ":" + std::to_string(reader.lines());
    const auto value = parse_foreign_json(line, where);
    const JsonObject item(value, where);
    if (!item.has("loss")) continue;
    steps.push_back(item.integer("step"));
    losses.push_back(item.number("loss"));
    speeds.push_back(item.number("tokens_per_second"));
  }
  return {{"steps", steps}, {"losses", losses}, {"tokens_per_second", median(speeds)}};
}

ordered_json train_and_measure(const Cell& cell, const DataSetConfig& source, const DataSet& data,
                               const MeasureConfig& measure, const std::filesystem::path& folder) {
  TrainConfig config = cell.config;
  config.tokenizer = shared_tokenizer(
      config.tokenizer, data, [&] { return read_pieces({data.train().string()}, DataConfig()); });
  config.data.train = {data.train().string()};
  config.data.valid = {data.test().string()};
  config.data.cache = (data.folder / "tokens").string();
  build_shared_tokens(config, data);
  config.train.output = (folder / "run").string();
  config.train.eval_tokens = measure.test_tokens;
  auto snapshots = ordered_json::array();
  TrainResult result;
  TrainedModel trained;
  TrainOptions options;
  // A cell is a function of its settings, so that nothing is lost where it starts again.
  options.resume = options.overwrite = options.quiet = true;
  if (const auto latest = latest_checkpoint(folder / "run"))  // an earlier call was interrupted
    result.step = read_checkpoint_config(*latest).document.value("/provenance/step"_json_pointer,
                                                                 std::int64_t{0});
  // A part at a time, with a look at the gates after each.
  const auto parts = std::min(measure.gate_snapshots, config.train.max_steps);
  for (std::int64_t part = 1; part <= parts; ++part) {
    const auto target = config.train.max_steps * part / parts;
    const auto snapshot_path = folder / ("gates-" + std::to_string(target) + ".json");
    if (std::filesystem::exists(snapshot_path)) {  // an earlier call came this far
      snapshots.push_back(
          ordered_json(parse_foreign_json(read_file(snapshot_path), snapshot_path.string())));
      if (part < parts) continue;
    }
    if (part < parts && result.step >= target) continue;  // gone by, without a gate to look at
    options.stop_after = std::max<std::int64_t>(0, target - result.step);
    result = train(config, options);
    if (result.signal != 0)
      throw Interrupted(cell.title(), "interrupted; run the same command to resume");
    trained = load_trained(cell.variant, result.checkpoint);
    if (part == parts && snapshots.size() == static_cast<std::size_t>(parts)) break;
    const TokenFile tokens(data.folder / "tokens" / "valid");
    auto snapshot =
        gate_snapshot(*trained.model, tokens.read(0, std::min<std::int64_t>(512, tokens.size())));
    if (snapshot.empty()) continue;
    snapshot["step"] = result.step;
    write_file(snapshot_path, snapshot.dump());
    snapshots.push_back(snapshot);
  }
  const TokenFile tokens(data.folder / "tokens" / "valid");
  auto row = ordered_json{
      {"parameters", parameter_count(trained.model->config())},
      {"vocab_size", trained.model->config().vocab_size},
      {"steps", result.step},
      {"tokens", result.step * config.train.grad_accum_steps * config.train.batch_size *
                     config.train.ctx_len},
      {"valid_loss", result.valid_loss},
      {"weights", hash_file(result.checkpoint / kWeightsFile)},
      {"window_losses",
       window_losses(*trained.model, tokens, config.train.ctx_len, measure.test_tokens)},
      {"log", training_log(folder / "run" / "log.jsonl")},
      {"gates", snapshots}};
  Generator generator(result.checkpoint, config.train.threads, config.train.device);
  row["scores"] = scored_continuations(generator, data, measure.generate,
                                       folder / "predictions.jsonl", "rouge1,rougeL,bleu");
  if (source.tells_stories())
    row["scores"]["names"] = name_scores(data.prompts(), folder / "predictions.jsonl");
  // A model that can be read is enough from here on.
  const auto step = config.train.output + "/" + kCheckpointsFolder + "/" + step_name(result.step);
  if (std::filesystem::exists(std::filesystem::path(config.train.output) / kCheckpointsFolder /
                              kBestName))
    remove_checkpoint(step);
  return row;
}

// The settings of a training on answers, with tokenizer and data.
TrainConfig answer_config(const TrainConfig& config, const DataSetConfig& source,
                          const DataSet& data, const std::filesystem::path& run) {
  auto result = answer_training(config, source, data);
  if (source.learned() != Learned::kRecall)
    result.tokenizer = shared_tokenizer(result.tokenizer, data, [&] {
      return supervised_texts(result.data.train, result.data, TextPart::kAll);
    });
  result.train.output = run.string();
  result.train.eval_tokens = 0;  // all
  result.train.save_every = result.train.eval_every;
  return result;
}

TrainResult train_cell(const TrainConfig& config, const std::string& title) {
  TrainOptions options;
  options.resume = options.overwrite = options.quiet = true;
  const auto result = train(config, options);
  if (result.signal != 0) throw Interrupted(title, "interrupted; run the same command to resume");
  return result;
}

// Trains until the validation loss stops falling, and measures the best checkpoint. `changes`: of
// the settings, by a search.
ordered_json train_on_answers(const Cell& cell, const DataSetConfig& source, const DataSet& data,
                              const MeasureConfig& measure, const json& changes,
                              const std::filesystem::path& folder) {
  const auto settings =
      changes.is_null() ? cell.config : with_changes(cell.config, changes, cell.title());
  const auto config = answer_config(settings, source, data, folder / "run");
  const auto result = train_cell(config, cell.title());
  const auto checkpoint = resolve_checkpoint(folder / "run");
  auto row =
      ordered_json{{"parameters", parameter_count(read_checkpoint_config(checkpoint).model)},
                   {"steps", result.step},
                   {"best_step", result.best_step},
                   {"tokens", result.tokens},
                   {"valid_loss", result.best_valid_loss},
                   {"weights", hash_file(checkpoint / kWeightsFile)},
                   {"changes", changes},
                   {"log", training_log(folder / "run" / "log.jsonl")},
                   {"scores", measure_answers(checkpoint, source, data, measure, config, folder)}};
  return row;
}

// Trains a variant with each candidate's changes; which has the least validation loss.
ordered_json search_settings(const Cell& cell, const SearchConfig& search,
                             const DataSetConfig& source, const DataSet& data,
                             const std::filesystem::path& folder) {
  std::vector<double> losses;
  for (const auto& changes : search.candidates) {
    auto settings = with_changes(cell.config, changes, cell.title());
    settings.train.max_steps = search.steps;
    const auto run = folder / ("run-" + std::to_string(losses.size()));
    losses.push_back(
        train_cell(answer_config(settings, source, data, run), cell.title()).best_valid_loss);
    std::filesystem::remove_all(run);
  }
  const auto best = std::ranges::min_element(losses) - losses.begin();
  return {{"valid_losses", losses},
          {"chosen", best},
          {"changes", search.candidates[static_cast<std::size_t>(best)]}};
}

}  // namespace

std::optional<json> read_result(const std::filesystem::path& output, const std::string& key) {
  const auto path = output / "cells" / key / "result.json";
  if (!std::filesystem::exists(path)) return std::nullopt;
  auto result = parse_json_or_null(read_file(path));
  const auto text_of = [&](const char* name) {
    return result.contains(name) && result[name].is_string() ? result[name].get<std::string>() : "";
  };
  if (!result.is_object() || !result.contains("result") || !result["result"].is_object() ||
      (result.contains("checksum") && text_of("checksum") != checksum_of(result["result"])))
    throw DataError(
        path.string(),
        "is not the result of a cell, or was changed; delete it and run the study again");
  return result;
}

StudyRunner::StudyRunner(const StudyFile& file, const RunnerOptions& options)
    : file_(file), options_(options), cells_(expand_grid(file)) {}

void StudyRunner::refuse_another() const {
  const auto copy = options_.output / "study.json";
  // A directory that a study ran in has cells.
  if (std::filesystem::exists(copy) && !std::filesystem::exists(options_.output / "cells") &&
      read_file(copy) != read_file(file_.path))
    throw FileError(copy.string(),
                    "already exists and belongs to another study; choose another --output");
}

void StudyRunner::keep_file() const {
  const auto copy = options_.output / "study.json";
  const auto text = read_file(file_.path);
  if (!std::filesystem::exists(copy) || read_file(copy) != text) write_file(copy, text);
}

std::filesystem::path StudyRunner::folder(const std::string& key) const {
  return options_.output / "cells" / key;
}

DataSet StudyRunner::data_set(const Cell& cell) const {
  const auto place = options_.output / "data" / cell.data;
  const OwnedFolder owned(place);
  return prepare_data_set(cell.data, file_.data.at(cell.data), file_.measure, options_.sources,
                          place);
}

bool StudyRunner::done(const Cell& cell) const {
  const auto result = read_result(options_.output, cell.key);
  return result && result->contains("data_hash") && (*result)["data_hash"] == data_set(cell).hash;
}

void StudyRunner::run(const Cell& cell) {
  if (done(cell)) return;
  for (const auto& key : cell.needs)
    for (const auto& other : cells_)
      if (other.key == key) run(other);
  const auto place = folder(cell.key);
  const OwnedFolder owned(place);
  if (done(cell)) return;  // by another process, while this one waited
  const auto data = data_set(cell);
  keep_file();
  if (read_result(options_.output, cell.key)) {  // of other data
    std::filesystem::remove_all(place / "run");
    std::filesystem::remove(place / "result.json");
    for (const auto& entry : std::filesystem::directory_iterator(place))
      if (entry.path().filename().string().starts_with("gates-"))
        std::filesystem::remove(entry.path());
  }
  const auto start = std::chrono::steady_clock::now();
  write_file(place / "cell.json", ordered_json{{"key", cell.key},
                                               {"kind", cell.kind()},
                                               {"study", cell.study->name},
                                               {"data", cell.data},
                                               {"variant", cell.variant},
                                               {"seed", cell.seed},
                                               {"repetition", cell.repetition},
                                               {"needs", cell.needs},
                                               {"config", config_to_json(cell.config)}}
                                          .dump(2) +
                                      "\n");
  ordered_json result;
  const auto& source = file_.data.at(cell.data);
  if (cell.work == CellKind::kSearch) {
    result = search_settings(cell, file_.search, source, data, place);
  } else if (cell.work == CellKind::kTraining && source.learned() != Learned::kText) {
    json changes;
    if (!cell.needs.empty())
      changes = (*read_result(options_.output, cell.needs[0]))["result"]["changes"];
    result = train_on_answers(cell, source, data, file_.measure, changes, place);
  } else if (cell.work == CellKind::kTraining) {
    result = train_and_measure(cell, source, data, file_.measure, place);
  } else {
    const auto& study = *find_study(file_, cell.study->name);
    std::vector<TrainedModel> models;
    for (std::size_t i = 0; i < cell.needs.size(); ++i)
      models.push_back(
          load_trained(study.variants[i], resolve_checkpoint(folder(cell.needs[i]) / "run")));
    result = cell.study->measure({.models = models,
                                  .data = data,
                                  .source = source,
                                  .study = study,
                                  .measure = file_.measure,
                                  .base = cell.config,
                                  .seed = static_cast<std::uint64_t>(cell.seed)});
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  write_file(place / "result.json", ordered_json{{"key", cell.key},
                                                 {"data_hash", data.hash},
                                                 {"build", build_id()},
                                                 {"threads", at::get_num_threads()},
                                                 {"seconds", seconds},
                                                 {"checksum", checksum_of(result)},
                                                 {"result", result}}
                                            .dump() +
                                        "\n");
}

void StudyRunner::run(const std::string& key) {
  for (const auto& cell : cells_)
    if (cell.key == key) {
      refuse_another();
      return run(cell);
    }
  throw ConfigError("--cell", "the study file has no cell " + key + "; see `rwkvx study cells`");
}

void StudyRunner::run_all(const std::string& only) {
  const auto cells = expand_grid(file_, only);
  refuse_another();
  Progress bar("study", static_cast<std::int64_t>(cells.size()), options_.quiet);
  std::int64_t count = 0;
  for (const auto& cell : cells) {
    bar.update(count, cell.title());
    if (!options_.quiet && messages_closed()) interrupt_by(SIGPIPE);
    if (interrupted()) throw Interrupted("study", "interrupted; run the same command to resume");
    run(cell);
    bar.update(++count, cell.title());
  }
  bar.finish();
}

}  // namespace rwkvx

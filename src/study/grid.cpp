#include "rwkvx/study/grid.h"

#include <algorithm>
#include <set>

#include "rwkvx/base/files.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/nearest.h"
#include "rwkvx/cores/core.h"
#include "rwkvx/synth/synth.h"

namespace rwkvx {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

// Changes with what a cell measures, so that results of older programs are not taken for new ones.
constexpr int kFormat = 1;

void check_keys(const json& object, const std::vector<std::string>& known,
                const std::string& where) {
  if (!object.is_object())
    throw ConfigError(where, "expected a JSON object, got " + json_shown(object));
  for (const auto& item : object.items())
    if (std::find(known.begin(), known.end(), item.key()) == known.end())
      throw ConfigError(where,
                        "unknown key \"" + item.key() + "\"" + did_you_mean(item.key(), known));
}

std::vector<std::int64_t> read_integers(const json& object, const char* name,
                                        const std::string& where) {
  std::vector<std::int64_t> numbers;
  if (!object.contains(name)) return numbers;
  const std::string path = where + "." + name;
  if (!object[name].is_array())
    throw ConfigError(path, "expected a list of whole numbers, got " + json_shown(object[name]));
  for (const auto& one : object[name]) {
    numbers.push_back(read_integer(one, path));
    if (numbers.back() < 1)
      throw ConfigError(path,
                        "expected numbers of at least 1, got " + std::to_string(numbers.back()));
  }
  return numbers;
}

std::vector<std::string> names_of(const StudyFile& file, bool variants) {
  std::vector<std::string> names;
  if (variants)
    for (const auto& [name, config] : file.variants) names.push_back(name);
  else
    for (const auto& [name, data] : file.data) names.push_back(name);
  return names;
}

StudyConfig read_study(const std::string& name, const json& object, const StudyFile& file,
                       const std::string& where) {
  const auto* row = study_named(name);
  if (row == nullptr) throw ConfigError(where, "no such study" + did_you_mean(name, study_names()));
  check_keys(object, {"data", "variants", "lengths", "batches", "threads", "repeats"}, where);
  StudyConfig study;
  study.study = row;
  for (const bool variants : {false, true}) {
    const std::string key = variants ? "variants" : "data";
    auto& list = variants ? study.variants : study.data;
    if (object.contains(key)) list = read_texts(object[key], where + "." + key);
    const auto valid = names_of(file, variants);
    for (const auto& one : list)
      if (std::find(valid.begin(), valid.end(), one) == valid.end())
        throw ConfigError(where + "." + key, "\"" + one + "\" is not defined in the section \"" +
                                                 key + "\"" + did_you_mean(one, valid));
    if (list.empty()) throw ConfigError(where + "." + key, "expected one or more names, got none");
  }
  for (const auto& one : study.data)
    if ((file.data.at(one).learned() != Learned::kText) != row->answers)
      throw ConfigError(where + ".data",
                        "\"" + one + "\" is " +
                            (row->answers ? "running text, and this study is of data sets whose "
                                            "answers are learned"
                                          : "a data set whose answers are learned, and this study "
                                            "is of running text"));
  if (study.variants.front() != kBaseline)
    throw ConfigError(where + ".variants",
                      "the first must be \"baseline\", got \"" + study.variants.front() + "\"");
  if (!row->without_enhanced &&
      std::find(study.variants.begin(), study.variants.end(), kEnhanced) == study.variants.end())
    throw ConfigError(where + ".variants", "must include \"enhanced\"");
  study.lengths = read_integers(object, "lengths", where);
  study.batches = read_integers(object, "batches", where);
  study.threads = read_integers(object, "threads", where);
  if (object.contains("repeats"))
    study.repeats = read_integer(object["repeats"], where + ".repeats");
  if (study.repeats < 2)
    throw ConfigError(where + ".repeats",
                      "expected 2 or more, got " + std::to_string(study.repeats));
  if (row->lengths && study.lengths.size() < 2)
    throw ConfigError(where + ".lengths",
                      "expected two or more lengths, got " + std::to_string(study.lengths.size()));
  return study;
}

SearchConfig read_search(const json& object, const StudyFile& file, const std::string& where) {
  check_keys(object, {"steps", "candidates"}, where + "search");
  SearchConfig search;
  search.steps = file.base.train.max_steps;
  if (object.contains("steps"))
    search.steps = read_integer(object["steps"], where + "search.steps");
  if (search.steps < 1)
    throw ConfigError(where + "search.steps",
                      "expected 1 or more, got " + std::to_string(search.steps));
  if (!object.contains("candidates") || !object["candidates"].is_array() ||
      object["candidates"].empty())
    throw ConfigError(where + "search.candidates", "expected a list of changes to train and model");
  for (const auto& one : object["candidates"]) {
    const auto at = where + "search.candidates[" + std::to_string(search.candidates.size()) + "]";
    for (const auto& [name, variant] : file.variants) with_changes(variant, one, at);
    search.candidates.push_back(one);
  }
  return search;
}

// The base with the changes of a variant. All variants train on as many tokens.
TrainConfig read_variant(const TrainConfig& base, const json& changes, const std::string& where) {
  const auto config = with_changes(base, changes, where);
  const auto tokens = [](const TrainingConfig& train) {
    return train.max_steps * train.batch_size * train.grad_accum_steps * train.ctx_len;
  };
  if (tokens(config.train) != tokens(base.train))
    throw ConfigError(where, "trains on " + std::to_string(tokens(config.train)) +
                                 " tokens, expected " + std::to_string(tokens(base.train)) +
                                 " as for all variants");
  return config;
}

// All that the result of a training, or of a search, depends on.
ordered_json training_spec(const StudyFile& file, const Cell& cell) {
  ordered_json spec{{"format", kFormat},
                    {"kind", cell.kind()},
                    {"repetition", cell.repetition},
                    {"config", settings_key(cell.config)},
                    {"data", settings_key(file.data.at(cell.data))},
                    {"measure", settings_key(file.measure)}};
  if (cell.work == CellKind::kSearch)
    spec["search"] = {{"steps", file.search.steps}, {"candidates", file.search.candidates}};
  if (!cell.needs.empty()) spec["needs"] = cell.needs;
  return spec;
}

std::string key_of(const ordered_json& spec) { return hash_bytes(spec.dump()).substr(0, 16); }

class Expansion {
 public:
  explicit Expansion(const StudyFile& file) : file_(file) {}

  void add_study(const StudyConfig& study) {
    // A seed and a data set at a time, so that an interrupted grid has whole comparisons.
    for (const auto& data : study.data)
      for (const auto seed : seeds_of(study)) {
        std::vector<std::string> keys;
        for (const auto& variant : study.variants)
          keys.push_back(add_training(study, variant, data, seed, 0));
        if (study.study->measure != nullptr) add_measurement(study, data, seed, keys);
      }
    if (study.study->repeats)
      add_training(study, study.variants.back(), study.data.front(), file_.seeds.front(), 1);
  }
  std::vector<Cell> cells;

 private:
  std::vector<std::int64_t> seeds_of(const StudyConfig& study) const {
    return study.study->first_seed ? std::vector{file_.seeds.front()} : file_.seeds;
  }
  std::string add_training(const StudyConfig& study, const std::string& variant,
                           const std::string& data, std::int64_t seed, std::int64_t repetition) {
    Cell cell;
    cell.study = study.study;
    cell.data = data;
    cell.seed = seed;
    cell.variant = variant;
    cell.repetition = repetition;
    for (const auto& [name, config] : file_.variants)
      if (name == variant) cell.config = config;
    cell.config.train.seed = seed;
    if (file_.data.at(data).learned() != Learned::kText) {
      cell.config.train.eval_every = file_.eval_every;
      cell.config.train.patience = file_.patience;
      if (!file_.search.candidates.empty()) cell.needs = {add_search(cell)};
    }
    cell.key = key_of(training_spec(file_, cell));
    return add(std::move(cell));
  }
  // With a seed that no training has.
  std::string add_search(Cell cell) {
    cell.work = CellKind::kSearch;
    cell.repetition = 0;
    cell.seed = 1 + *std::ranges::max_element(file_.seeds);
    cell.config.train.seed = cell.seed;
    cell.key = key_of(training_spec(file_, cell));
    return add(std::move(cell));
  }
  void add_measurement(const StudyConfig& study, const std::string& data, std::int64_t seed,
                       const std::vector<std::string>& needs) {
    Cell cell;
    cell.work = CellKind::kMeasurement;
    cell.study = study.study;
    cell.data = data;
    cell.seed = seed;
    cell.needs = needs;
    cell.config = file_.base;
    cell.key = key_of({{"format", kFormat},
                       {"kind", cell.kind()},
                       {"needs", needs},
                       {"lengths", study.lengths},
                       {"batches", study.batches},
                       {"threads", study.threads},
                       {"repeats", study.repeats},
                       {"measure", settings_key(file_.measure)}});
    add(std::move(cell));
  }
  std::string add(Cell cell) {
    auto key = cell.key;
    if (known_.insert(key).second) cells.push_back(std::move(cell));
    return key;
  }
  const StudyFile& file_;
  std::set<std::string> known_;
};

}  // namespace

void DataSetConfig::check(const std::string& where) const {
  const int kinds = (train.empty() ? 0 : 1) + (train_pairs.empty() ? 0 : 1) +
                    (synth.empty() ? 0 : 1) + (train_choices.empty() ? 0 : 1) +
                    (recall_pairs == 0 ? 0 : 1);
  if (kinds != 1)
    throw ConfigError(where,
                      "expected one of train, train_pairs, train_choices, synth and recall_pairs, "
                      "got " +
                          std::to_string(kinds));
  if (!train_choices.empty() && test_choices.empty())
    throw ConfigError(where, "train_choices needs test_choices");
  const auto most = std::max(recall_pairs, recall_test_pairs);
  if (recall_pairs > 0 && 4 * most > recall_vocab)
    throw ConfigError(where + ".recall_vocab",
                      "must be at least four times the pairs of a sequence, " +
                          std::to_string(4 * most) + ", got " + std::to_string(recall_vocab));
  if (recall_test_pairs > 0 && recall_test_pairs < recall_pairs)
    throw ConfigError(where + ".recall_test_pairs", "must be at least recall_pairs, " +
                                                        std::to_string(recall_pairs) + ", got " +
                                                        std::to_string(recall_test_pairs));
  if (recall_fewest_pairs > recall_pairs)
    throw ConfigError(where + ".recall_fewest_pairs", "must be at most recall_pairs, " +
                                                          std::to_string(recall_pairs) + ", got " +
                                                          std::to_string(recall_fewest_pairs));
  if (responses && !train.empty() && test.empty())
    throw ConfigError(where, "train with responses needs test");
  if (!train_pairs.empty() && test_pairs.empty())
    throw ConfigError(where, "train_pairs needs test_pairs");
  if (!synth.empty()) synth_task(synth, where + ".synth");
}

std::vector<RecallShape> DataSetConfig::recall_shapes(bool test) const {
  const auto most = test && recall_test_pairs > 0 ? recall_test_pairs : recall_pairs;
  std::vector<RecallShape> shapes;
  const auto add = [&](std::int64_t pairs) {
    shapes.push_back({pairs, std::max(recall_tokens, 4 * pairs), recall_vocab});
  };
  for (auto pairs = recall_fewest_pairs; pairs > 0 && pairs < most; pairs *= 2) add(pairs);
  add(most);
  return shapes;
}

bool DataSetConfig::tells_stories() const {
  return !synth.empty() && !synth_task(synth, "synth").answers;
}

Learned DataSetConfig::learned() const {
  if (!train_choices.empty()) return Learned::kChoices;
  if (recall_pairs > 0) return Learned::kRecall;
  return responses ? Learned::kResponses : Learned::kText;
}

TrainConfig with_changes(const TrainConfig& config, const json& changes, const std::string& where) {
  check_keys(changes, {"model", "train"}, where);
  json merged = config_to_json(config), changed = changes;
  use_current_names<TrainConfig>(changed, where);
  merged.merge_patch(changed);
  auto result = config_from_json<TrainConfig>(merged, where);
  check_model(result.model, where + ".model");
  return result;
}

StudyFile read_study_file(const std::string& path) {
  if (!std::filesystem::exists(path)) throw ConfigError(path, "does not exist");
  // Variants keep their order, so that tables have them as they were written.
  const auto text = read_file(path);
  const auto document = parse_json(text, path);
  const auto ordered = ordered_json::parse(text, nullptr, true, /*ignore_comments=*/true);
  check_keys(document, {"base", "seeds", "measure", "data", "search", "variants", "studies"}, path);
  const std::string where = path + ": ";
  StudyFile file;
  file.path = path;
  for (const char* name : {"seeds", "data", "variants", "studies"})
    if (!document.contains(name))
      throw ConfigError(path, std::string("has no section \"") + name + "\"");
  if (document.contains("base")) {
    file.base = config_from_json<TrainConfig>(document["base"], where + "base");
    check_model(file.base.model, where + "base.model");
    if (document["base"].contains("data"))
      throw ConfigError(where + "base.data", "belongs in the section \"data\"");
  }
  const auto& train = file.base.train;
  if (train.max_steps == 0 || train.max_tokens > 0 || train.epochs > 0)
    throw ConfigError(where + "base.train",
                      "the length of a study's trainings is max_steps; set "
                      "it above 0, and neither max_tokens nor epochs");
  file.base.train.output = TrainingConfig().output;  // each cell has its own folder
  file.eval_every = file.base.train.eval_every, file.patience = file.base.train.patience;
  file.base.train.eval_every = file.base.train.patience = 0;
  file.base.train.save_every = 0;
  file.base.train.keep_last = 1;
  if (document.contains("measure"))
    file.measure = config_from_json<MeasureConfig>(document["measure"], where + "measure");
  file.seeds = read_integers(document, "seeds", path);
  if (file.seeds.empty()) throw ConfigError(where + "seeds", "expected one or more, got none");
  for (const auto& item : document["data"].items())
    file.data[item.key()] =
        config_from_json<DataSetConfig>(item.value(), where + "data." + item.key());
  for (const auto& item : ordered["variants"].items())
    file.variants.emplace_back(
        item.key(), read_variant(file.base, json(item.value()), where + "variants." + item.key()));
  for (const char* name : {kBaseline, kEnhanced})
    if (!ordered["variants"].contains(name))
      throw ConfigError(where + "variants", std::string("has no \"") + name + "\"");
  if (document.contains("search")) file.search = read_search(document["search"], file, where);
  for (const auto& item : ordered["studies"].items())
    file.studies.push_back(
        read_study(item.key(), json(item.value()), file, where + "studies." + item.key()));
  return file;
}

std::string Cell::kind() const {
  switch (work) {
    case CellKind::kTraining:
      return "train";
    case CellKind::kSearch:
      return "search";
    default:
      return std::string(study->name);
  }
}

std::string Cell::title() const {
  const auto what = work == CellKind::kTraining ? "training " + variant
                    : work == CellKind::kSearch ? "searching settings of " + variant
                                                : "measuring";
  return std::string(study->name) + ": " + what + ", " + data + ", seed " + std::to_string(seed) +
         (repetition > 0 ? ", once more" : "");
}

const StudyConfig* find_study(const StudyFile& file, std::string_view name) {
  for (const auto& study : file.studies)
    if (study.study->name == name) return &study;
  return nullptr;
}

std::vector<Cell> expand_grid(const StudyFile& file, const std::string& only) {
  if (!only.empty() && find_study(file, only) == nullptr) {
    std::vector<std::string> names;
    for (const auto& study : file.studies) names.emplace_back(study.study->name);
    throw ConfigError("--only",
                      file.path + " has no study \"" + only + "\"" + did_you_mean(only, names));
  }
  Expansion expansion(file);
  for (const auto& study : file.studies)
    if (only.empty() || study.study->name == only) expansion.add_study(study);
  return std::move(expansion.cells);
}

const Cell* find_training(const std::vector<Cell>& cells, const std::string& variant,
                          const std::string& data, std::int64_t seed, std::int64_t repetition) {
  for (const auto& cell : cells)
    if (cell.work == CellKind::kTraining && cell.variant == variant && cell.data == data &&
        cell.seed == seed && cell.repetition == repetition)
      return &cell;
  return nullptr;
}

}  // namespace rwkvx

// What a study file says, and the cells it stands for: variants x seeds x data sets, and what is
// measured on the trained models.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "rwkvx/base/field.h"
#include "rwkvx/config/train_config.h"
#include "rwkvx/generate/generate_config.h"
#include "rwkvx/study/study.h"
#include "rwkvx/synth/recall.h"

namespace rwkvx {

// What is trained on: running text, or documents whose answers alone are learned.
enum class Learned { kText, kResponses, kChoices, kRecall };

// Where a data set comes from: text, pairs of prompts and references, questions with choices, or
// synthetic text. Paths are relative to the data directory.
struct DataSetConfig {
  std::vector<std::string> train, test;
  std::string train_pairs, test_pairs;
  std::string synth;
  double megabytes = 0.6;
  double test_megabytes = 0.12;
  bool responses = false;
  std::int64_t swap_variants = 0;
  std::string train_choices, test_choices;
  std::int64_t recall_pairs = 0, recall_fewest_pairs = 0, recall_test_pairs = 0, recall_tokens = 64,
               recall_vocab = 8192, recall_lines = 20000;

  Learned learned() const;
  bool tells_stories() const;  // synthetic prose, whose borders and names are known
  // The sequences of recall to train or to test on, in turn: of recall_fewest_pairs, of twice as
  // many, …, each of recall_tokens tokens or of those that its pairs need.
  std::vector<RecallShape> recall_shapes(bool test) const;

  static constexpr auto fields() {
    using C = DataSetConfig;
    using Texts = Field<C, std::vector<std::string>>;
    using Text = Field<C, std::string>;
    return std::tuple{
        Texts{"train", &C::train, "training text"},
        Texts{"test", &C::test, "test text; empty: the last tenth of the training text"},
        Text{"train_pairs", &C::train_pairs, "JSON lines with prompt and reference to train on"},
        Text{"test_pairs", &C::test_pairs, "the same to test on"},
        Text{"synth", &C::synth, "a task of `rwkvx data synth` instead of files"},
        Field<C, double>{"megabytes", &C::megabytes,
                         "largest size of the training text, 10^6 bytes", 0.001, 1e6},
        Field<C, double>{"test_megabytes", &C::test_megabytes, "the same of the test text", 0.001,
                         1e6},
        added(
            Field<C, bool>{"responses", &C::responses,
                           "what follows a prompt is learned alone: each reference of train_pairs, "
                           "or the words after those of a prompt cut from the text"}),
        added(Field<C, std::int64_t>{"swap_variants", &C::swap_variants,
                                     "with responses: as data.swap_variants", 0, 1000}),
        added(Text{"train_choices", &C::train_choices,
                   "JSON lines with prompt, choices and answer to train on"}),
        added(Text{"test_choices", &C::test_choices, "the same to test on"}),
        added(Field<C, std::int64_t>{
            "recall_pairs", &C::recall_pairs,
            "multi-query associative recall of so many keys and values (arXiv 2312.04927)", 0,
            4096}),
        added(Field<C, std::int64_t>{
            "recall_fewest_pairs", &C::recall_fewest_pairs,
            "so many, twice as many and so on up to recall_pairs, in turn; 0: recall_pairs alone",
            0, 4096}),
        added(Field<C, std::int64_t>{
            "recall_test_pairs", &C::recall_test_pairs,
            "so many at most in the sequences to test on; 0: as in those to train on", 0, 4096}),
        added(Field<C, std::int64_t>{
            "recall_tokens", &C::recall_tokens,
            "tokens of its sequences, or four for each pair where that is more", 16, 65536}),
        added(Field<C, std::int64_t>{"recall_vocab", &C::recall_vocab,
                                     "its vocabulary: half keys, half values", 16, 1048576}),
        added(Field<C, std::int64_t>{"recall_lines", &C::recall_lines, "its sequences to train on",
                                     100, 1e9}),
    };
  }
  void check(const std::string& where) const;
};

// What is measured on every trained model, and how densely the probes look.
struct MeasureConfig {
  std::int64_t prompts = 24;
  std::int64_t prompt_words = 30;
  std::int64_t reference_words = 20;
  std::int64_t gate_snapshots = 3;
  std::int64_t test_tokens = 16384;
  std::int64_t probe_bytes = 16384;
  std::int64_t probe_targets = 96;
  std::int64_t resamples = 2000;
  GenerateConfig generate;

  static constexpr auto fields() {
    using C = MeasureConfig;
    using I = Field<C, std::int64_t>;
    return std::tuple{
        I{"prompts", &C::prompts, "continuations per model", 2, 1e6},
        I{"prompt_words", &C::prompt_words, "words of a prompt cut from running text", 1, 1e4},
        I{"reference_words", &C::reference_words, "words of its reference", 1, 1e4},
        I{"gate_snapshots", &C::gate_snapshots, "looks at the gates during a training", 1, 100},
        I{"test_tokens", &C::test_tokens, "tokens of the test text that are scored", 512, 1e9},
        I{"probe_bytes", &C::probe_bytes, "bytes of test text whose gates are read", 1024, 1e8},
        I{"probe_targets", &C::probe_targets, "tokens whose loss is watched under perturbation", 4,
          1e6},
        I{"resamples", &C::resamples, "draws of the statistical tests", 100, 1e6},
        Field<C, GenerateConfig>{"generate", &C::generate, "how continuations are drawn"},
    };
  }
};

// What a file says about one of its studies.
struct StudyConfig {
  const Study* study = nullptr;
  std::vector<std::string> data, variants;
  std::vector<std::int64_t> lengths, batches, threads;
  std::int64_t repeats = 5;
};

// Settings to try before the trainings of each variant on each data set, with as many steps for
// each; the one with the least validation loss is taken for all seeds.
struct SearchConfig {
  std::int64_t steps = 0;
  std::vector<nlohmann::json> candidates;  // changes of the sections model and train
};

struct StudyFile {
  std::string path;
  TrainConfig base;
  // Of trainings on answers, which end where the validation loss stops falling.
  std::int64_t eval_every = 0, patience = 0;
  SearchConfig search;
  std::vector<std::int64_t> seeds;
  MeasureConfig measure;
  std::map<std::string, DataSetConfig> data;
  // The base with a variant's changes, in the order of the file.
  std::vector<std::pair<std::string, TrainConfig>> variants;
  std::vector<StudyConfig> studies;
};

inline constexpr const char* kBaseline = "baseline";
inline constexpr const char* kEnhanced = "enhanced";

// Throws ConfigError, naming file and key, for whatever a study file may not say.
StudyFile read_study_file(const std::string& path);

enum class CellKind { kTraining, kSearch, kMeasurement };

// One piece of work that can be done alone, given those that it needs.
struct Cell {
  const Study* study = nullptr;  // the first study that it is for
  // A training, the search for a variant's settings, or the study's measurement.
  CellKind work = CellKind::kTraining;
  std::string data;
  std::int64_t seed = 0;
  std::string variant;          // of a training
  std::int64_t repetition = 0;  // 1: the same training again
  TrainConfig config;           // of a training, without directories
  // Keys of trainings, in the order of the study's variants; of a training, of its search.
  std::vector<std::string> needs;
  std::string key;            // hash of all settings that the result depends on
  std::string kind() const;   // "train", "search", or the name of the study that measures
  std::string title() const;  // "ablation: training enhanced, shakespeare, seed 1"
};

// A variant's settings with the changes of a candidate. Throws ConfigError at `where`.
TrainConfig with_changes(const TrainConfig& config, const nlohmann::json& changes,
                         const std::string& where);

// The cells of a file, each once and after those that it needs. Trainings that studies share are
// one cell. `only`: those of one study, "" for all. Throws ConfigError for an unknown study.
std::vector<Cell> expand_grid(const StudyFile& file, const std::string& only = "");

// The training of a cell that a study, variant, data set and seed stand for; nullptr for none.
const Cell* find_training(const std::vector<Cell>& cells, const std::string& variant,
                          const std::string& data, std::int64_t seed, std::int64_t repetition = 0);

const StudyConfig* find_study(const StudyFile& file, std::string_view name);

}  // namespace rwkvx

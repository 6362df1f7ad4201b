// Data sets whose answers alone are learned: their files, their trainings, and what a model of them
// can do.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "rwkvx/study/data_sets.h"
#include "rwkvx/study/grid.h"

namespace rwkvx {

// Lines of such a data set: what is trained on, and one in twenty to validate on, in the form of
// data.format = pairs; what is tested in a form of its kind. Texts are those of prompts and
// answers, to see what of the test is in the training.
struct AnswerLines {
  std::string train, valid, test;
  std::string train_text, test_text;
  std::int64_t tests = 0;
};
// Synthetic text is written into `folder`. Throws DataError and FileError for sources that are
// missing or unfit.
AnswerLines read_answer_lines(const DataSetConfig& config, const MeasureConfig& measure,
                              const std::filesystem::path& sources,
                              const std::filesystem::path& folder);

// The settings of the cell with its data, and with the tokenizer where the kind of data has one of
// its own.
TrainConfig answer_training(const TrainConfig& config, const DataSetConfig& source,
                            const DataSet& data);

// What the model of a checkpoint does with the test part: a member for each way of asking, with an
// array of a number per line for each metric.
nlohmann::ordered_json measure_answers(const std::filesystem::path& checkpoint,
                                       const DataSetConfig& source, const DataSet& data,
                                       const MeasureConfig& measure, const TrainConfig& config,
                                       const std::filesystem::path& folder);

// What needs no model: the prompt as its own answer, the answer of the training example whose
// prompt has the most words in common, the answer that is most often right. The same form.
nlohmann::ordered_json answers_without_model(const DataSetConfig& source, const DataSet& data);

}  // namespace rwkvx

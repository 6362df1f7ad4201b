// The data sets of a study, brought into one form: training text, test text, prompts.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "rwkvx/study/grid.h"

namespace rwkvx {

// What of a test text is in the training text too.
struct Overlap {
  std::int64_t lines = 0, lines_in_training = 0;  // lines of 40 bytes or more, equal byte for byte
  std::int64_t spans = 0, spans_in_training = 0;  // spans of eight words, white space aside
};
Overlap text_overlap(std::string_view train, std::string_view test);

struct DataSet {
  std::filesystem::path folder;  // train.txt, test.txt, prompts.jsonl, about.json
  std::filesystem::path train() const { return folder / "train.txt"; }
  std::filesystem::path test() const { return folder / "test.txt"; }
  std::filesystem::path prompts() const { return folder / "prompts.jsonl"; }
  std::string hash;  // over the contents of the three
  std::int64_t train_bytes = 0, test_bytes = 0, prompts_count = 0;
  Overlap overlap;
};

// The data set that about.json in `folder` describes; nothing where there is no such file. Throws
// DataError where it is not of this program.
std::optional<DataSet> made_data_set(const std::filesystem::path& folder);

// Makes `folder` hold the data set, or takes it as it is where its about.json names the same
// settings. Relative paths in `config` start at `sources`. Throws DataError and FileError for
// sources that are missing or unfit.
DataSet prepare_data_set(const std::string& name, const DataSetConfig& config,
                         const MeasureConfig& measure, const std::filesystem::path& sources,
                         const std::filesystem::path& folder);

}  // namespace rwkvx

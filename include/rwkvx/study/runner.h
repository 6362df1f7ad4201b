// Runs the cells of a grid, each in a directory of its own:
//
//   OUT/study.json           the study file
//   OUT/data/NAME/           a data set: train.txt, test.txt, prompts.jsonl, about.json
//   OUT/cells/KEY/           a cell: cell.json (its settings), result.json (last, so: done),
//                            run/ (a training's log and checkpoint)
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "rwkvx/study/data_sets.h"
#include "rwkvx/study/grid.h"

namespace rwkvx {

struct RunnerOptions {
  std::filesystem::path output;   // OUT
  std::filesystem::path sources;  // the data directory
  bool quiet = false;
};

class StudyRunner {
 public:
  StudyRunner(const StudyFile& file, const RunnerOptions& options);
  // Whether the cell's result is there, of these settings and of this data.
  bool done(const Cell& cell) const;
  // Does one cell and, before it, the trainings that it needs; nothing where it is done. A training
  // that was interrupted resumes. Two processes never work in one cell's directory at a time.
  // Throws Error where it is interrupted.
  void run(const Cell& cell);
  // The same by the cell's key. Throws ConfigError where the file has none of it.
  void run(const std::string& key);
  // All cells of the file, or of one study, with progress over all of them.
  void run_all(const std::string& only);

 private:
  // Throws FileError where the output holds the file of another study, and no cells.
  void refuse_another() const;
  // Copies the study file beside the results.
  void keep_file() const;
  DataSet data_set(const Cell& cell) const;
  std::filesystem::path folder(const std::string& key) const;
  StudyFile file_;
  RunnerOptions options_;
  std::vector<Cell> cells_;
};

// The result of a cell; nothing where it is not done.
std::optional<nlohmann::json> read_result(const std::filesystem::path& output,
                                          const std::string& key);

}  // namespace rwkvx

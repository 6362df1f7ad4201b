// What a training run's directory says of it: log.jsonl and config.json, which anybody may have
// written or may be writing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rwkvx {

// A number over the steps of a run, in bounded memory: where more than `most` points come,
// neighbors become one, with their mean and their range.
class LogSeries {
 public:
  struct Point {
    std::int64_t step = 0;  // of the last value, as are the tokens
    double tokens = std::numeric_limits<double>::quiet_NaN();
    double sum = 0, low = 0, high = 0;
    std::int64_t count = 0;
    double mean() const { return sum / static_cast<double>(count); }
  };
  explicit LogSeries(std::size_t most = 600) : most_(most) {}
  // Values come in the order of steps.
  void add(std::int64_t step, double tokens, double value);
  // Forgets the points after a step, which a run that went back takes anew.
  void forget_after(std::int64_t step);
  const std::vector<Point>& points() const { return points_; }
  double last() const { return last_; }

 private:
  std::size_t most_;
  std::int64_t merged_ = 1;  // values per full point
  double last_ = std::numeric_limits<double>::quiet_NaN();
  std::vector<Point> points_;
};

// What the gates of a site did on the first validation window.
struct GateSeries {
  LogSeries mean{200}, low{200}, high{200}, open{200}, added{200};
};

class RunLog {
 public:
  // `run` is a run's directory or its log.jsonl. Throws FileError where there is no such directory.
  explicit RunLog(const std::filesystem::path& run);

  // Reads what was appended since the last call; all of the file where it was replaced or cut. An
  // unfinished last line is left for later. Whether anything changed. Throws FileError where the
  // log is there and cannot be read.
  bool read();
  // Throws FileError where there is no log, DataError where it holds no line of a run's.
  void check() const;

  const std::filesystem::path& directory() const { return directory_; }
  std::filesystem::path file() const;
  // By the names of the log's fields, "loss", "valid_loss"; `tokens` is none of them.
  const std::map<std::string, LogSeries>& numbers() const { return numbers_; }
  // The series of a field, null where the log has none.
  const LogSeries* find(const std::string& field) const;
  // By the sites' names, "blocks.0.att", in the order of the log.
  const std::vector<std::pair<std::string, GateSeries>>& gates() const { return gates_; }
  // Of the settings in config.json, by their paths: "train.seed" and "1". Empty where it cannot be
  // read.
  const std::map<std::string, std::string>& settings() const { return settings_; }
  // The number that a setting has, NaN for none.
  double setting_number(const std::string& path) const;

  std::int64_t lines() const { return lines_; }      // whole lines
  std::int64_t skipped() const { return skipped_; }  // lines that are none of a run's
  std::int64_t last_step() const { return last_step_; }
  double last_tokens() const { return last_tokens_; }
  // The lowest validation loss and its step; NaN and 0 where there was none.
  double best_valid_loss() const;
  std::int64_t best_step() const;

 private:
  void clear();
  void read_settings();
  void read_line(std::string_view line);
  void read_gates(std::string_view object, std::int64_t step, double tokens);
  void go_back_to(std::int64_t step);

  std::filesystem::path directory_;
  std::uint64_t inode_ = 0, read_ = 0, size_ = 0;  // of the log: bytes of the lines that were read
  std::map<std::string, LogSeries> numbers_;
  std::vector<std::pair<std::string, GateSeries>> gates_;
  std::map<std::string, std::string> settings_;
  std::vector<std::pair<std::int64_t, double>> best_;  // each lower than the one before
  std::int64_t lines_ = 0, skipped_ = 0, last_step_ = -1;
  double last_tokens_ = std::numeric_limits<double>::quiet_NaN();
};

}  // namespace rwkvx

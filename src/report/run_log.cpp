#include "rwkvx/report/run_log.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <system_error>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/json_line.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;

constexpr char kLogName[] = "log.jsonl";
constexpr std::size_t kLongestLine = 1 << 20, kLongestName = 64;
constexpr std::size_t kMostFields = 64, kMostSites = 512, kMostSettings = 2000;
constexpr std::uint64_t kMostConfigBytes = 4 << 20;
constexpr double kMostSteps = 1e15;

// The finite number that a JSON value is.
std::optional<double> number_in(std::string_view value) {
  if (value.empty() || json_kind(value) != JsonKind::kNumber) return std::nullopt;
  double number = 0;
  const auto read = std::from_chars(value.data(), value.data() + value.size(), number);
  if (read.ec != std::errc() || !std::isfinite(number)) return std::nullopt;
  return number;
}

void flatten(const nlohmann::json& value, const std::string& path,
             std::map<std::string, std::string>& into) {
  if (into.size() >= kMostSettings) return;
  if (value.is_object()) {
    for (const auto& item : value.items())
      flatten(item.value(), path.empty() ? item.key() : path + "." + item.key(), into);
  } else if (value.is_string()) {
    into[path] = value.get<std::string>();
  } else {
    into[path] = json_dump(value);
  }
}

}  // namespace

void LogSeries::add(std::int64_t step, double tokens, double value) {
  last_ = value;
  if (points_.empty() || points_.back().count >= merged_) {
    if (points_.size() >= most_) {
      for (std::size_t i = 0; i < points_.size(); i += 2) {
        Point one = points_[i];
        if (i + 1 < points_.size()) {
          const auto& next = points_[i + 1];
          one = {next.step,
                 next.tokens,
                 one.sum + next.sum,
                 std::min(one.low, next.low),
                 std::max(one.high, next.high),
                 one.count + next.count};
        }
        points_[i / 2] = one;
      }
      points_.resize((points_.size() + 1) / 2);
      merged_ *= 2;
    }
    points_.push_back({step, tokens, value, value, value, 1});
    return;
  }
  auto& point = points_.back();
  point.step = step, point.tokens = tokens;
  point.sum += value;
  point.low = std::min(point.low, value), point.high = std::max(point.high, value);
  ++point.count;
}

void LogSeries::forget_after(std::int64_t step) {
  while (!points_.empty() && points_.back().step > step) points_.pop_back();
  if (points_.empty()) last_ = std::numeric_limits<double>::quiet_NaN();
}

RunLog::RunLog(const fs::path& run) : directory_(run) {
  std::error_code ignored;
  if (fs::is_regular_file(run, ignored) && run.filename() == kLogName)
    directory_ = run.has_parent_path() ? run.parent_path() : fs::path(".");
  if (!fs::exists(directory_, ignored)) throw FileError(run.string(), "no such directory");
  if (!fs::is_directory(directory_, ignored))
    throw FileError(run.string(), "expected the directory of a run, or its log.jsonl, got a file");
}

fs::path RunLog::file() const { return directory_ / kLogName; }

const LogSeries* RunLog::find(const std::string& field) const {
  const auto found = numbers_.find(field);
  return found == numbers_.end() || found->second.points().empty() ? nullptr : &found->second;
}

double RunLog::setting_number(const std::string& path) const {
  const auto found = settings_.find(path);
  if (found == settings_.end()) return std::numeric_limits<double>::quiet_NaN();
  return number_in(found->second).value_or(std::numeric_limits<double>::quiet_NaN());
}

double RunLog::best_valid_loss() const {
  return best_.empty() ? std::numeric_limits<double>::quiet_NaN() : best_.back().second;
}
std::int64_t RunLog::best_step() const { return best_.empty() ? 0 : best_.back().first; }

void RunLog::clear() {
  read_ = size_ = 0;
  numbers_.clear();
  gates_.clear();
  settings_.clear();
  best_.clear();
  lines_ = skipped_ = 0;
  last_step_ = -1;
  last_tokens_ = std::numeric_limits<double>::quiet_NaN();
}

bool RunLog::read() {
  struct stat now {};
  if (::stat(file().c_str(), &now) != 0) {
    const bool changed = inode_ != 0;
    inode_ = 0;
    clear();
    return changed;
  }
  if (!S_ISREG(now.st_mode))
    throw FileError(file().string(), "expected the log of a run, got what is not a regular file");
  const auto size = static_cast<std::uint64_t>(now.st_size);
  if (inode_ == now.st_ino && size == size_) return false;
  // A resumed run takes lines away; a run that starts again, all of them.
  if (inode_ != now.st_ino || size < size_) clear();
  inode_ = now.st_ino;
  if (settings_.empty()) read_settings();
  const MappedFile log(file());
  const auto text = log.text();
  size_ = text.size();
  for (std::size_t dropped = read_; read_ < text.size();) {
    const auto end = text.find('\n', read_);
    if (end == std::string_view::npos) break;
    read_line(text.substr(read_, end - read_));
    read_ = end + 1;
    if (read_ - dropped > (16u << 20)) {
      log.drop(dropped, read_ - dropped);
      dropped = read_;
    }
  }
  log.check();
  return true;
}

void RunLog::read_settings() {
  const auto path = directory_ / "config.json";
  std::error_code error;
  if (!fs::is_regular_file(path, error) || fs::file_size(path, error) > kMostConfigBytes || error)
    return;
  try {
    const auto json = parse_json_or_null(read_file(path));
    if (json.is_object()) flatten(json, "", settings_);
  } catch (const FileError&) {
    // The page does without.
  }
}

void RunLog::check() const {
  if (inode_ == 0)
    throw FileError(directory_.string(),
                    "holds no log.jsonl; expected the directory of a run (train.output)");
  const bool any = std::any_of(numbers_.begin(), numbers_.end(),
                               [](const auto& one) { return !one.second.points().empty(); });
  if (any) return;
  if (size_ == 0) throw DataError(file().string(), "is empty: the run has logged no step yet");
  throw DataError(file().string(), "is not the log of a training run: none of its " +
                                       std::to_string(lines_) +
                                       " lines is a JSON object with a step and a number");
}

void RunLog::go_back_to(std::int64_t step) {
  for (auto& [name, series] : numbers_) series.forget_after(step);
  for (auto& [site, gates] : gates_)
    for (auto* series : {&gates.mean, &gates.low, &gates.high, &gates.open, &gates.added})
      series->forget_after(step);
  while (!best_.empty() && best_.back().first > step) best_.pop_back();
}

void RunLog::read_line(std::string_view line) {
  ++lines_;
  JsonLine json;
  try {
    if (line.size() > kLongestLine) throw JsonLineError(kLongestLine, "too long");
    json.read(line);
  } catch (const JsonLineError&) {
    ++skipped_;
    return;
  }
  const auto at = number_in(json.find("step"));
  if (!at || *at < 0 || *at > kMostSteps || *at != std::floor(*at)) {
    ++skipped_;
    return;
  }
  const auto step = static_cast<std::int64_t>(*at);
  if (step < last_step_) go_back_to(step - 1);
  last_step_ = step;
  const double tokens =
      number_in(json.find("tokens")).value_or(std::numeric_limits<double>::quiet_NaN());
  if (std::isfinite(tokens)) last_tokens_ = tokens;
  std::string room;
  for (const auto& [quoted, value] : json.members()) {
    const auto number = number_in(value);
    if (!number || quoted.size() > kLongestName) continue;
    room.clear();
    room.reserve(quoted.size());
    const std::string name(json_text(quoted, room));
    if (name == "step" || name == "tokens") continue;
    auto series = numbers_.find(name);
    if (series == numbers_.end()) {
      if (numbers_.size() >= kMostFields) continue;
      series = numbers_.emplace(name, LogSeries()).first;
    }
    series->second.add(step, tokens, *number);
    if (name == "valid_loss" && (best_.empty() || *number < best_.back().second))
      best_.emplace_back(step, *number);
  }
  const auto gates = json.find("gates");
  if (!gates.empty() && json_kind(gates) == JsonKind::kObject) read_gates(gates, step, tokens);
}

void RunLog::read_gates(std::string_view object, std::int64_t step, double tokens) {
  JsonLine sites, values;
  sites.read(object);
  std::string room;
  for (const auto& [quoted, value] : sites.members()) {
    if (quoted.size() > kLongestName || json_kind(value) != JsonKind::kObject) continue;
    room.clear();
    room.reserve(quoted.size());
    const std::string name(json_text(quoted, room));
    auto site = std::find_if(gates_.begin(), gates_.end(),
                             [&](const auto& one) { return one.first == name; });
    if (site == gates_.end()) {
      if (gates_.size() >= kMostSites) continue;
      site = gates_.emplace(gates_.end(), name, GateSeries());
    }
    values.read(value);
    const std::pair<const char*, LogSeries*> members[] = {{"mean", &site->second.mean},
                                                          {"min", &site->second.low},
                                                          {"max", &site->second.high},
                                                          {"open", &site->second.open},
                                                          {"added", &site->second.added}};
    for (const auto& [member, series] : members)
      if (const auto number = number_in(values.find(member))) series->add(step, tokens, *number);
  }
}

}  // namespace rwkvx

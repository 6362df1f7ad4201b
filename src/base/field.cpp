#include "rwkvx/base/field.h"

#include <algorithm>
#include <mutex>
#include <set>
#include <utility>

#include "rwkvx/base/files.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/log.h"

namespace rwkvx {
namespace {

std::string number_text(double value) { return nlohmann::json(value).dump(); }

// 3.0 reads better as 3 in a message about an integer's range.
std::string bound_text(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15)
    return std::to_string(static_cast<std::int64_t>(value));
  return number_text(value);
}

[[noreturn]] void wrong_type(const std::string& path, const std::string& expected,
                             const nlohmann::json& got) {
  throw ConfigError(path, "expected " + expected + ", got " + json_shown(got));
}

}  // namespace

std::vector<std::string> split_choices(std::string_view choices) {
  std::vector<std::string> parts;
  while (!choices.empty()) {
    const auto bar = choices.find('|');
    parts.emplace_back(choices.substr(0, bar));
    choices = bar == std::string_view::npos ? "" : choices.substr(bar + 1);
  }
  return parts;
}

std::string_view choice_at(std::string_view choices, std::size_t index) {
  for (; index > 0; --index) choices.remove_prefix(choices.find('|') + 1);
  return choices.substr(0, choices.find('|'));
}

std::ptrdiff_t choice_index(std::string_view choices, std::string_view name) {
  const auto parts = split_choices(choices);
  const auto found = std::find(parts.begin(), parts.end(), name);
  return found == parts.end() ? -1 : found - parts.begin();
}

std::string range_text(double min, double max) {
  const bool low = min > std::numeric_limits<double>::lowest();
  const bool high = max < std::numeric_limits<double>::max();
  if (low && high) return bound_text(min) + " to " + bound_text(max);
  if (low) return "at least " + bound_text(min);
  if (high) return "at most " + bound_text(max);
  return "";
}

std::string choices_text(std::string_view choices) {
  const auto parts = split_choices(choices);
  std::string text;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += i + 1 == parts.size() ? " or " : ", ";
    text += parts[i].empty() ? "\"\"" : parts[i];
  }
  return text;
}

std::int64_t read_integer(const nlohmann::json& json, const std::string& path) {
  if (!json.is_number_integer()) wrong_type(path, "a whole number", json);
  if (json.is_number_unsigned() &&
      json.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX))
    wrong_type(path, "a whole number below 2^63", json);
  return json.get<std::int64_t>();
}

double read_number(const nlohmann::json& json, const std::string& path) {
  if (!json.is_number()) wrong_type(path, "a number", json);
  return json.get<double>();
}

bool read_flag(const nlohmann::json& json, const std::string& path) {
  if (!json.is_boolean()) wrong_type(path, "true or false", json);
  return json.get<bool>();
}

std::string read_text(const nlohmann::json& json, const std::string& path,
                      std::string_view choices) {
  const auto allowed = split_choices(choices);
  // null says "none" where none is one of the choices.
  if (json.is_null() && std::find(allowed.begin(), allowed.end(), "none") != allowed.end())
    return "none";
  if (!json.is_string()) wrong_type(path, "a text", json);
  auto text = json.get<std::string>();
  if (choices.empty()) return text;
  for (const auto& one : allowed)
    if (one == text) return text;
  throw ConfigError(path, "expected " + choices_text(choices) + ", got \"" + text + "\"" +
                              did_you_mean(text, allowed));
}

std::vector<std::string> read_texts(const nlohmann::json& json, const std::string& path) {
  if (json.is_string()) {
    auto text = json.get<std::string>();
    if (text.empty()) return {};
    return {std::move(text)};
  }
  if (!json.is_array()) wrong_type(path, "a list of texts", json);
  std::vector<std::string> texts;
  for (const auto& item : json) {
    texts.push_back(read_text(item, path, ""));
    if (texts.back().empty())
      throw ConfigError(path, "expected texts that say something, got \"\" as number " +
                                  std::to_string(texts.size()) + " of the list");
  }
  return texts;
}

std::vector<double> read_numbers(const nlohmann::json& json, const std::string& path) {
  if (json.is_number()) return {read_number(json, path)};
  if (!json.is_array()) wrong_type(path, "a list of numbers", json);
  std::vector<double> numbers;
  for (const auto& item : json) numbers.push_back(read_number(item, path));
  return numbers;
}

void refuse_no_settings(const nlohmann::json& json, const std::string& where) {
  wrong_type(where, "a JSON object of settings", json);
}

void note_old_name(const std::string& old_name, std::string_view name) {
  static std::mutex mutex;
  static std::set<std::string> noted;
  const std::lock_guard lock(mutex);
  if (noted.insert(old_name).second)
    log_warning(old_name + ": renamed to " + std::string(name) +
                "; the old name works in this release only");
}

nlohmann::json parse_json(std::string_view text, const std::string& where) {
  if (!json_is_shallow(text))
    throw ConfigError(where, "expected JSON nested at most " + std::to_string(kDeepestJson) +
                                 " levels deep, got deeper brackets");
  try {
    return nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/true,
                                 /*ignore_comments=*/true);
  } catch (const nlohmann::json::parse_error& error) {
    // Count the place from the byte offset; the library's own text is long and repeats itself.
    const std::size_t end = std::min(error.byte > 0 ? error.byte - 1 : 0, text.size());
    std::size_t line = 1, column = 1;
    for (std::size_t i = 0; i < end; ++i) {
      column = text[i] == '\n' ? 1 : column + 1;
      line += text[i] == '\n' ? 1 : 0;
    }
    std::string reason = error.what();
    const auto colon = reason.rfind("syntax error");
    throw ConfigError(
        where + ":" + std::to_string(line) + ":" + std::to_string(column),
        "not valid JSON: " + (colon == std::string::npos ? reason : reason.substr(colon)));
  } catch (const nlohmann::json::exception&) {
    throw ConfigError(where, "holds a number that is out of range");
  }
}

nlohmann::json read_json_file(const std::string& path) { return parse_json(read_file(path), path); }

void set_by_path(nlohmann::json& json, const std::string& assignment) {
  const auto equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0)
    throw ConfigError("--set " + assignment, "expected KEY=VALUE, for example train.max_steps=100");
  const std::string text = assignment.substr(equals + 1);
  nlohmann::json value = text;  // unless it is JSON
  if (json_is_shallow(text))
    if (auto parsed = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
        !parsed.is_discarded())
      value = std::move(parsed);
  nlohmann::json* place = &json;
  std::string_view path = std::string_view(assignment).substr(0, equals);
  for (;;) {
    const auto dot = path.find('.');
    const std::string key(path.substr(0, dot));
    if (!place->is_object())
      throw ConfigError("--set " + assignment, "\"" + key + "\" is not inside a section");
    auto& next = (*place)[key];
    if (dot == std::string_view::npos) {
      next = std::move(value);
      return;
    }
    if (next.is_null()) next = nlohmann::json::object();
    place = &next;
    path = path.substr(dot + 1);
  }
}

}  // namespace rwkvx

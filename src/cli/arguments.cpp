#include "cli/arguments.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/field.h"
#include "rwkvx/base/nearest.h"

namespace rwkvx {
namespace {

// Values go past CLI11, which would read lists into them, under such names.
constexpr char kPlaceholder[] = "value-";

// The options' current names by their old ones, of each command.
std::map<const CLI::App*, std::map<std::string, std::string>>& old_names() {
  static std::map<const CLI::App*, std::map<std::string, std::string>> names;
  return names;
}

std::string shown(const std::string& text) {
  constexpr std::size_t kShown = 60;
  const auto cut = text.size() > kShown ? text.substr(0, kShown) + "…" : text;
  return nlohmann::json(cut).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string bound_text(double value) {
  return value == std::floor(value) ? std::to_string(static_cast<std::int64_t>(value))
                                    : nlohmann::json(value).dump();
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Without the underscores that separate digits; nothing where they stand elsewhere.
std::optional<std::string> without_separators(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
    } else if (i == 0 || i + 1 == text.size() || !is_digit(text[i - 1]) || !is_digit(text[i + 1])) {
      return std::nullopt;
    }
  }
  return out;
}

// "-12.5e+3" in any of the usual forms: a sign, digits with a point somewhere, an exponent.
bool is_decimal(std::string_view text) {
  const auto digits = [&] {
    const auto end = std::min(text.find_first_not_of("0123456789"), text.size());
    text.remove_prefix(end);
    return end;
  };
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  auto count = digits();
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    count += digits();
  }
  if (count == 0) return false;
  if (text.starts_with('e') || text.starts_with('E')) {
    text.remove_prefix(1);
    if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
    if (digits() == 0) return false;
  }
  return text.empty();
}

// What an option's values are called in its help: "N" and "X" are numbers, "FILE", "DIR" and
// "PATH" are names of files.
std::string value_kind(const CLI::Option& option) {
  const auto name = option.get_type_name();
  return name.substr(0, name.find(':'));
}

std::string read_value(const CLI::Option& option, const std::string& text) {
  const auto name = option.get_name(), kind = value_kind(option);
  if (kind == "N" || kind == "X") return as_number(name, text, kind == "N");
  const bool path = kind == "FILE" || kind == "FILE..." || kind == "DIR" || kind == "PATH";
  if (path && text.empty()) throw ConfigError(name, "expected a file name, got an empty value");
  return text;
}

std::string path_of(const CLI::App* command) {
  std::string path = command->get_name();
  for (command = command->get_parent(); command != nullptr; command = command->get_parent())
    path = command->get_name() + " " + path;
  return path;
}

// The nearest name, where a beginning of one is nearest.
std::string nearest_name(const std::string& word, const std::vector<std::string>& names) {
  std::vector<std::string> begun;
  for (const auto& name : names)
    if (word.size() > 3 && name.starts_with(word)) begun.push_back(name);
  const auto shorter = [](const auto& a, const auto& b) { return a.size() < b.size(); };
  if (!begun.empty())
    return "; did you mean \"" + *std::min_element(begun.begin(), begun.end(), shorter) + "\"?";
  return did_you_mean(word, names);
}

class Parser {
 public:
  explicit Parser(CLI::App& app) : command_(&app) { take_values(app); }

  void parse(std::vector<std::string> words) {
    words_ = std::move(words);
    bool only_words = false;
    while (at_ < words_.size()) {
      const auto word = words_[at_++];
      if (!only_words && word == "--") {
        only_words = true;
      } else if (!only_words && word.size() > 1 && word.starts_with('-')) {
        take_option(word);
      } else if (auto* sub = only_words ? nullptr : subcommand(word)) {
        finish_command();
        command_ = sub;
        out_.push_back(word);
      } else {
        take_word(word);
      }
      if (help_) break;
    }
    finish_command();
  }
  // The words for CLI11, from the last to the first as it wants them.
  std::vector<std::string> reversed() const { return {out_.rbegin(), out_.rend()}; }
  const CLI::App* command() const { return command_; }

 private:
  // Lets all options look their values up here.
  void take_values(CLI::App& app) {
    for (auto* option : app.get_options()) {
      if (option->get_items_expected_max() == 0) continue;
      option->transform([this, option](const std::string& placeholder) {
        const auto number = std::stoul(placeholder.substr(sizeof kPlaceholder - 1));
        return read_value(*option, values_.at(number));
      });
    }
    for (auto* sub : app.get_subcommands([](CLI::App*) { return true; })) take_values(*sub);
  }

  CLI::App* subcommand(const std::string& word) const {
    for (auto* sub : command_->get_subcommands([](CLI::App*) { return true; }))
      if (sub->get_name() == word) return sub;
    return nullptr;
  }

  std::string see_help() const { return " (see " + path_of(command_) + " --help)"; }

  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto* option : command_->get_options())
      for (const auto& name : option->get_lnames()) names.push_back("--" + name);
    return names;
  }

  [[noreturn]] void refuse(const std::string& word, const std::string& kind,
                           std::vector<std::string> valid) const {
    throw ConfigError("", "unknown " + kind + " " + word + nearest_name(word, valid) + see_help());
  }

  bool names_option(const std::string& word) const {
    // A text may begin with dashes; an option's name is letters after them.
    const auto name = word.substr(0, word.find('='));
    if (command_->get_option_no_throw(name) != nullptr && name.starts_with('-')) return true;
    return name.size() > 2 && name.starts_with("--") &&
           std::all_of(name.begin() + 2, name.end(),
                       [](char c) { return (c >= 'a' && c <= 'z') || is_digit(c) || c == '-'; }) &&
           name[2] >= 'a' && name[2] <= 'z';
  }

  void take_option(const std::string& word) {
    const auto equals = word.find('=');
    auto name = word.substr(0, equals);
    const auto& old = old_names()[command_];
    if (const auto found = old.find(name); found != old.end()) {
      note_old_name(name, found->second);
      name = found->second;
    }
    auto* option = command_->get_option_no_throw(name);
    if (option == nullptr) {
      if (name.starts_with("--")) refuse(name, "option", names());
      refuse(word, "option", {});
    }
    if (option->get_items_expected_max() == 0) {  // a flag
      if (option == command_->get_help_ptr() || name == "--version") help_ = true;
      if (equals != std::string::npos)
        throw ConfigError(name, "takes no value, got " + shown(word.substr(equals + 1)));
      given_[option] = {};
      return;
    }
    auto& values = given_[option];
    const bool list = option->get_items_expected_max() > 1;
    if (value_kind(*option) == kGroupedFiles) values.emplace_back();
    if (!list && option->get_multi_option_policy() != CLI::MultiOptionPolicy::TakeAll)
      values.clear();
    if (equals != std::string::npos) {
      values.push_back(word.substr(equals + 1));
      return;
    }
    const auto refuse_missing = [&](const std::string& got) {
      throw ConfigError(name, "expected a value (" + value_kind(*option) + "), got " + got);
    };
    if (at_ == words_.size()) refuse_missing("nothing");
    if (names_option(words_[at_]))
      refuse_missing("the option " + words_[at_] + "; write " + name + "=" + words_[at_] +
                     " to take it as the value");
    do {
      values.push_back(words_[at_++]);
    } while (list && at_ < words_.size() && !names_option(words_[at_]) && words_[at_] != "--");
  }

  void take_word(const std::string& word) {
    for (auto* option : command_->get_options()) {
      if (!option->get_positional()) continue;
      auto& values = given_[option];
      if (static_cast<int>(values.size()) < option->get_items_expected_max()) {
        values.push_back(word);
        return;
      }
    }
    std::vector<std::string> valid = names();
    for (const auto* sub : command_->get_subcommands([](const CLI::App*) { return true; }))
      valid.push_back(sub->get_name());
    refuse(word, "word", valid);
  }

  // Passes on what was given to the command so far.
  void finish_command() {
    if (help_)  // nothing else counts, and nothing else may be wrong
      std::erase_if(given_,
                    [](const auto& item) { return item.first->get_items_expected_max() != 0; });
    for (const auto* option : command_->get_options()) {
      const auto found = given_.find(option);
      if (found == given_.end()) continue;
      if (option->get_items_expected_max() == 0) {
        out_.push_back(option->get_name());
        continue;
      }
      const bool positional = option->get_positional();
      for (const auto& value : found->second) {
        const auto placeholder = kPlaceholder + std::to_string(values_.size());
        out_.push_back(positional ? placeholder : option->get_name() + "=" + placeholder);
        values_.push_back(value);
      }
    }
    given_.clear();
  }

  CLI::App* command_;
  std::vector<std::string> words_, out_;
  std::deque<std::string> values_;
  std::size_t at_ = 0;
  std::map<const CLI::Option*, std::vector<std::string>> given_;
  bool help_ = false;
};

}  // namespace

void parse_arguments(CLI::App& app, int argc, const char* const* argv) {
  // The options keep pointing to it.
  static std::unique_ptr<Parser> parser;
  parser = std::make_unique<Parser>(app);
  parser->parse({argv + std::min(1, argc), argv + argc});
  try {
    app.parse(parser->reversed());
  } catch (const CLI::Success&) {
    throw;
  } catch (const CLI::ParseError& error) {
    throw ConfigError(
        "", std::string(error.what()) + " (see " + path_of(parser->command()) + " --help)");
  }
}

void add_old_name(const CLI::App& command, const std::string& old_name, const std::string& name) {
  old_names()[&command][old_name] = name;
}

std::string as_number(const std::string& option, const std::string& text, bool whole) {
  const auto refuse = [&](const std::string& wanted) {
    throw ConfigError(option, "expected " + wanted + ", got " + shown(text));
  };
  const std::string kind = whole ? "a whole number" : "a number";
  auto digits = without_separators(text);
  if (!digits || !is_decimal(*digits)) refuse(kind);
  if (digits->starts_with('+')) digits->erase(0, 1);
  const auto* const begin = digits->data();
  const auto* const end = begin + digits->size();
  if (whole && digits->find_first_not_of("0123456789", 1) == std::string::npos) {
    std::int64_t value = 0;
    if (std::from_chars(begin, end, value).ec != std::errc())
      refuse("a whole number of less than 64 bits");
    return std::to_string(value);
  }
  double value = 0;
  if (std::from_chars(begin, end, value).ec != std::errc() || !std::isfinite(value))
    refuse(kind + " that a double can hold");
  constexpr double kExact = 9007199254740992.0;  // whole numbers up to here are exact
  if (whole && (value != std::floor(value) || std::abs(value) > kExact)) refuse(kind);
  return whole ? std::to_string(static_cast<std::int64_t>(value)) : nlohmann::json(value).dump();
}

CLI::Validator between(double least, double most) {
  return {[least, most](std::string& text) {
            double value = 0;
            const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
            if (read.ec == std::errc() && least <= value && value <= most) return std::string();
            if (most < 1e300)
              return "expected " + bound_text(least) + " to " + bound_text(most) + ", got " + text;
            return "expected at least " + bound_text(least) + ", got " + text;
          },
          ""};
}

CLI::Validator at_least(std::int64_t least) {
  return between(static_cast<double>(least), std::numeric_limits<double>::max());
}

void refuse_idle(const CLI::App& command, std::initializer_list<const char*> options,
                 const std::string& reason) {
  for (const auto* name : options)
    if (command.count(name) > 0) throw ConfigError(name, "has no effect here: it " + reason);
}

}  // namespace rwkvx

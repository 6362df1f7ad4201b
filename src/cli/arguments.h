// The words of a command line: which are options, and what their values are.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace rwkvx {

// Parses the command line into the options of `app`, whose callbacks run. An option takes one value
// as it is, whatever characters it holds: the next word, unless that names an option, or what
// follows "=" (which may be nothing, or begin with dashes). Of a single-valued option given twice
// the last value counts. Numbers are read by as_number(). Throws ConfigError, which names the
// nearest option of the same subcommand for one that there is not, and CLI11's requests for help.
void parse_arguments(CLI::App& app, int argc, const char* const* argv);

// The type name of an option of lists that may be given several times: each list follows an empty
// value, so that they can be told apart.
inline constexpr const char* kGroupedFiles = "NAME FILE...";

// Lets `old_name` stand for the option `name` of the command; its use is noted once. It stands in
// no help.
void add_old_name(const CLI::App& command, const std::string& old_name, const std::string& name);

// A number as people write it (".8", "1.", "+0.5", "1e3", "1_000") in the form that parsers take;
// a whole one where `whole`. Throws ConfigError naming `option` for anything else.
std::string as_number(const std::string& option, const std::string& text, bool whole);

// Bounds of a number, for CLI::Option::check().
CLI::Validator at_least(std::int64_t least);
CLI::Validator between(double least, double most);

// Throws ConfigError for the first of these options that was given although it changes nothing;
// `reason` says when it does ("needs --input").
void refuse_idle(const CLI::App& command, std::initializer_list<const char*> options,
                 const std::string& reason);

}  // namespace rwkvx

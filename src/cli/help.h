// The layout of help texts.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace rwkvx {

// Lists options and subcommands with descriptions that are wrapped to fit 80 columns.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter();
  std::string make_option_desc(const CLI::Option* option) const override;
  std::string make_subcommand(const CLI::App* command) const override;
};

}  // namespace rwkvx

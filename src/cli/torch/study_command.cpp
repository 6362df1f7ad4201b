#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <string_view>

#include "cli/commands.h"
#include "cli/output.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/log.h"
#include "rwkvx/ops/threads.h"
#include "rwkvx/study/report.h"
#include "rwkvx/study/runner.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;

struct StudyFlags {
  std::string file, only, cell, docs = "", name = "report";
  bool parallel = false;
  RunnerOptions options;
};

void run_study(const StudyFlags& flags) {
  const auto file = read_study_file(flags.file);
  if (file.base.train.threads > 0) set_threads(file.base.train.threads);
  StudyRunner runner(file, flags.options);
  const InterruptGuard guard;
  if (flags.cell.empty())
    runner.run_all(flags.only);
  else
    runner.run(flags.cell);
  end_if_interrupted();
}

std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

void print_cells(const StudyFlags& flags) {
  const auto file = read_study_file(flags.file);
  auto all = expand_grid(file, flags.only);
  // Cells that need none first, so that those begun at the same time do not wait for each other.
  if (flags.parallel)
    std::ranges::stable_partition(all, [](const Cell& cell) { return cell.needs.empty(); });
  for (const auto& cell : all) {
    if (flags.parallel && cell.work == CellKind::kMeasurement && cell.study->alone) continue;
    print("rwkvx study run " + quoted(flags.file) + " --data " +
          quoted(flags.options.sources.string()) + " --output " +
          quoted(flags.options.output.string()) + " --cell " + cell.key + " --quiet  # " +
          cell.title() + "\n");
  }
  finish_output();
}

void write_report(const StudyFlags& flags) {
  const fs::path output =
      flags.docs.empty() ? flags.options.output / "report" : fs::path(flags.docs);
  write_study_report(flags.options.output, output, flags.name);
  print((output / (flags.name + ".md")).string() + "\n");
  print((output / flags.name / "report.html").string() + "\n");
  finish_output();
}

void add_grid_flags(CLI::App& command, const std::shared_ptr<StudyFlags>& flags) {
  command.add_option("file", flags->file, "study file, see configs/studies/")
      ->required()
      ->type_name("FILE");
  command.add_option("--output", flags->options.output, "directory for data, cells and results")
      ->required()
      ->type_name("DIR");
  command.add_option("--data", flags->options.sources, "directory of the file's texts [.]")
      ->type_name("DIR");
  command.add_option("--only", flags->only, "one study of the file")->type_name("NAME");
}

// Appends a text in lines of at most 80 columns, all but the first indented.
void append_wrapped(std::string_view text, std::size_t indent, std::string& out) {
  std::size_t column = indent;
  while (!text.empty()) {
    const auto word = text.substr(0, std::min(text.find(' '), text.size()));
    if (column + word.size() + 1 > 80) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
    text.remove_prefix(std::min(word.size() + 1, text.size()));
  }
  out += '\n';
}

// The table of studies, for the help.
std::string described_studies() {
  constexpr std::size_t kIndent = 15;
  std::string text = "Studies:\n";
  for (const auto* study : studies()) {
    text += "  " + std::string(study->name);
    text.append(kIndent - 2 - study->name.size(), ' ');
    append_wrapped(std::string(study->question) + " " + std::string(study->measures), kIndent,
                   text);
  }
  return text;
}

}  // namespace

void add_study_command(CLI::App& app) {
  auto* command = app.add_subcommand("study", kStudyDescription);
  command->require_subcommand(1);
  command->footer(described_studies());
  auto flags = std::make_shared<StudyFlags>();
  flags->options.sources = ".";

  auto* run = command->add_subcommand("run", "Run what is left of a study: train and measure");
  add_grid_flags(*run, flags);
  run->add_option("--cell", flags->cell, "one cell by its key, see `rwkvx study cells`")
      ->type_name("KEY");
  run->add_flag("--quiet", flags->options.quiet, "no progress");
  run->callback([flags] { run_study(*flags); });

  auto* cells = command->add_subcommand(
      "cells", "Print one command line per cell, for the jobs of a cluster or for xargs");
  add_grid_flags(*cells, flags);
  cells->add_flag("--parallel", flags->parallel,
                  "leave out cells that measure time, which should run alone; those that others "
                  "need come first");
  cells->callback([flags] { print_cells(*flags); });

  auto* report = command->add_subcommand("report", "Write a report with tables, plots and tests");
  report->add_option("folder", flags->options.output, "the --output of `rwkvx study run`")
      ->required()
      ->type_name("DIR");
  report->add_option("--output", flags->docs, "directory for the report [DIR/report]")
      ->type_name("DIR");
  report->add_option("--name", flags->name, "NAME.md, and NAME/ for the page and plots [report]")
      ->type_name("NAME");
  report->callback([flags] { write_report(*flags); });
}

}  // namespace rwkvx

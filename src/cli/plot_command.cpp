#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "cli/commands.h"
#include "cli/output.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/lock.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/report/run_page.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr int kReloadSeconds = 5;
constexpr auto kPoll = std::chrono::milliseconds(250);
constexpr auto kBetweenPages = std::chrono::seconds(2);

struct PlotFlags {
  std::vector<std::string> runs;
  std::string output, x = "steps";
  bool follow = false, quiet = false;
  bool by_tokens() const { return x == "tokens"; }
};

bool read_all(std::vector<RunLog>& runs) {
  bool changed = false;
  for (auto& run : runs) changed |= run.read();
  return changed;
}

bool any_in_use(const std::vector<RunLog>& runs) {
  for (const auto& run : runs)
    if (directory_in_use(run.directory())) return true;
  return false;
}

// Writes the page again whenever a log has grown, until no training works in the directories.
void follow(const PlotFlags& flags, std::vector<RunLog>& runs, const fs::path& output) {
  const InterruptGuard guard;
  if (!flags.quiet)
    log_info("following the run; the page is " + output.string() + "; Ctrl-C ends this");
  bool changed = true;
  for (auto written = Clock::now() - kBetweenPages;;) {
    // Asked before the log is read, so that its last lines are not missed.
    const bool running = any_in_use(runs);
    changed |= read_all(runs);
    if (interrupted() || !running) break;
    if (changed && Clock::now() - written >= kBetweenPages) {
      write_file(output, run_page(runs, {flags.by_tokens(), kReloadSeconds}));
      changed = false;
      written = Clock::now();
    }
    std::this_thread::sleep_for(kPoll);
  }
  write_file(output, run_page(runs, {flags.by_tokens()}));
  if (!flags.quiet && !interrupted()) log_info("the run has ended; the page is complete");
  end_if_interrupted();
}

void run_plot(const PlotFlags& flags) {
  std::vector<RunLog> runs;
  for (const auto& name : flags.runs) runs.emplace_back(name);
  const auto output =
      flags.output.empty() ? runs.front().directory() / "plot.html" : fs::path(flags.output);
  for (const auto& run : runs)
    refuse_same_file("--output", output,
                     {{"RUN", run.file()}, {"RUN", run.directory() / "config.json"}});
  check_writable(output);
  // The log of a run that has just begun may be empty.
  read_all(runs);
  for (const auto& run : runs)
    if (!flags.follow || !directory_in_use(run.directory())) run.check();
  if (flags.follow) {
    follow(flags, runs, output);
  } else {
    write_file(output, run_page(runs, {flags.by_tokens()}));
  }
  const auto names = run_names(runs);
  if (flags.quiet) return;
  for (std::size_t i = 0; i < runs.size(); ++i)
    if (runs[i].skipped() > 0)
      log_warning(runs[i].file().string() + ": " + std::to_string(runs[i].skipped()) + " of " +
                  std::to_string(runs[i].lines()) +
                  " lines are not log lines of a run and were skipped");
  if (!flags.follow) log_info("the page is " + output.string());
}

}  // namespace

void add_plot_command(CLI::App& app) {
  auto* command = app.add_subcommand("plot", "Draw the curves of training runs on one HTML page");
  auto flags = std::make_shared<PlotFlags>();  // lives as long as the callback
  command->add_option("RUN", flags->runs, "directories of runs, drawn over each other")
      ->required()
      ->type_name("DIR");
  command
      ->add_option("--output", flags->output,
                   "the page; default: plot.html in the first run's directory")
      ->type_name("FILE");
  command->add_option("--x", flags->x, "the x axis: steps or tokens; default: steps")
      ->type_name("NAME")
      ->check(CLI::IsMember({"steps", "tokens"}));
  command->add_flag("--follow", flags->follow,
                    "write the page again while a run goes on; it reloads itself");
  command->add_flag("--quiet", flags->quiet, "no messages");
  command->callback([flags] { run_plot(*flags); });
}

}  // namespace rwkvx

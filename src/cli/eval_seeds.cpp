#include "cli/eval_seeds.h"

#include <CLI/CLI.hpp>

#include "cli/arguments.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/statistics.h"

namespace rwkvx {
namespace {

using nlohmann::ordered_json;

ordered_json seeds_json(const std::optional<std::int64_t>& seeds) {
  return seeds ? ordered_json(*seeds) : ordered_json(nullptr);
}

ordered_json report_json(const SeedReport& report, bool detect) {
  ordered_json json = {{"signature", report.signature}, {"n", report.samples}};
  json["systems"] = ordered_json::array();
  for (std::size_t k = 0; k < report.systems.size(); ++k) {
    ordered_json system = {{"name", report.systems[k].name}};
    for (const auto& file : report.systems[k].files) system["files"].push_back(file.string());
    for (std::size_t i = 0; i < report.columns.size(); ++i) {
      const auto& means = report.means[k][i];
      system["scores"][report.columns[i].name] = {{"mean", compensated_mean(means)},
                                                  {"deviation_of_seeds", sample_deviation(means)},
                                                  {"by_seed", means}};
    }
    json["systems"].push_back(std::move(system));
  }
  json["comparisons"] = ordered_json::array();
  for (const auto& item : report.differences) {
    const auto& one = item.seeds;
    ordered_json row = {{"metric", report.columns[item.column].name},
                        {"a", report.systems.front().name},
                        {"b", report.systems[item.system].name},
                        {"mean_a", one.mean_a},
                        {"mean_b", one.mean_b},
                        {"difference", one.difference},
                        {"low", one.low},
                        {"high", one.high},
                        {"standard_error", one.standard_error},
                        {"degrees_of_freedom", one.degrees_of_freedom},
                        {"p_bootstrap", one.p_bootstrap},
                        {"p_permutation", one.p_permutation},
                        {"least_p_permutation", one.least_p_permutation},
                        {"p_holm", item.p_holm},
                        {"seeds_a", one.seeds_a},
                        {"seeds_b", one.seeds_b},
                        {"samples", one.samples},
                        {"detectable_difference", item.detectable},
                        {"seeds_needed", seeds_json(item.needed)}};
    if (detect) row["seeds_to_detect"] = seeds_json(item.needed_to_detect);
    json["comparisons"].push_back(std::move(row));
  }
  return json;
}

}  // namespace

void add_eval_seed_flags(CLI::App& command, EvalSeedFlags& flags) {
  command
      .add_option(
          "--system", flags.words,
          "a system's name and its files of JSON lines, one per seed; given for each of two "
          "or more systems, which are compared over seeds and samples")
      ->type_name(kGroupedFiles);
  command.add_flag("--paired-seeds", flags.options.paired,
                   "with --system: the first files of all systems have one seed, the second files "
                   "another, and so on");
  command
      .add_option("--detect", flags.detect,
                  "with --system: also the number of seeds that a difference of so many points "
                  "needs")
      ->type_name("X")
      ->check(between(1e-9, 1e9));
}

void read_systems(EvalSeedFlags& flags) {
  for (std::size_t at = 0; at < flags.words.size();) {
    SeedSystem system;
    ++at;  // the mark where it begins
    if (at < flags.words.size()) system.name = flags.words[at++];
    while (at < flags.words.size() && !flags.words[at].empty())
      system.files.emplace_back(flags.words[at++]);
    if (system.name.empty()) throw ConfigError("--system", "expected a name, got an empty value");
    if (system.files.size() < 2)
      throw ConfigError("--system", "expected a name and two or more files, one per seed, got \"" +
                                        system.name + "\" and " +
                                        std::to_string(system.files.size()) +
                                        "; for one file per system, use --compare");
    for (const auto& other : flags.systems)
      if (other.name == system.name)
        throw ConfigError("--system", "got the name \"" + system.name + "\" twice");
    flags.systems.push_back(std::move(system));
  }
  if (flags.systems.size() == 1)
    throw ConfigError("--system", "expected two or more systems, got 1");
  for (const auto& system : flags.systems)
    if (flags.options.paired && system.files.size() != flags.systems.front().files.size())
      throw ConfigError("--paired-seeds", "expected as many files of each system, got " +
                                              std::to_string(flags.systems.front().files.size()) +
                                              " and " + std::to_string(system.files.size()));
}

std::string eval_seeds(const EvalSeedFlags& flags, const EvalCompareFlags& compare,
                       const PairFields& fields, const MetricSet& metrics,
                       const ScoringOptions& options) {
  auto seed_options = flags.options;
  seed_options.compare = compare.options;
  if (flags.detect > 0) seed_options.detect = flags.detect;
  const auto report = compare_seed_systems(flags.systems, fields, metrics, seed_options, options);
  if (!compare.report.empty()) write_file(compare.report, seed_page(report));
  if (const auto format = table_format(compare.format))
    return format_table(seed_scores_table(report), *format) + "\n" +
           format_table(seed_differences_table(report), *format);
  return json_dump(report_json(report, flags.detect > 0)) + "\n";
}

}  // namespace rwkvx

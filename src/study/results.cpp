#include "study/results.h"

#include <algorithm>

#include "rwkvx/base/error.h"
#include "rwkvx/base/statistics.h"
#include "rwkvx/study/runner.h"

namespace rwkvx {

using nlohmann::json;

StudyResults::StudyResults(const std::filesystem::path& folder)
    : folder_(folder), file_(read_study_file((folder / "study.json").string())) {
  grid_ = expand_grid(file_);
  cells = grid_.size();
  for (const auto& cell : grid_) {
    auto found = read_result(folder, cell.key);
    if (!found) continue;
    ++done;
    seconds += found->value("seconds", 0.0);
    const auto build = found->value("build", "");
    if (std::find(builds.begin(), builds.end(), build) == builds.end()) builds.push_back(build);
    const auto used = found->value("threads", std::int64_t{0});
    if (std::find(threads.begin(), threads.end(), used) == threads.end()) threads.push_back(used);
    results_[cell.key] = std::move((*found)["result"]);
  }
  if (done == 0)
    throw DataError(folder.string(), "no cell of the study is done; see `rwkvx study run`");
}

const json* StudyResults::result(const Cell* cell) const {
  if (cell == nullptr) return nullptr;
  const auto found = results_.find(cell->key);
  return found == results_.end() ? nullptr : &found->second;
}

const json* StudyResults::training(const std::string& variant, const std::string& data,
                                   std::int64_t seed, std::int64_t repetition) const {
  return result(find_training(grid_, variant, data, seed, repetition));
}

const json* StudyResults::measured(std::string_view study, const std::string& data,
                                   std::int64_t seed) const {
  for (const auto& cell : grid_)
    if (cell.work == CellKind::kMeasurement && cell.study->name == study && cell.data == data &&
        cell.seed == seed)
      return result(&cell);
  return nullptr;
}

bool StudyResults::any_measured(std::string_view study) const {
  return std::any_of(grid_.begin(), grid_.end(), [&](const Cell& cell) {
    return cell.work == CellKind::kMeasurement && cell.study->name == study &&
           result(&cell) != nullptr;
  });
}

std::optional<DataSet> StudyResults::about(const std::string& data) const {
  return made_data_set(folder_ / "data" / data);
}

std::vector<std::int64_t> StudyResults::seeds(const std::string& data,
                                              const std::vector<std::string>& variants) const {
  std::vector<std::int64_t> found;
  for (const auto seed : file_.seeds)
    if (std::all_of(variants.begin(), variants.end(),
                    [&](const auto& variant) { return training(variant, data, seed) != nullptr; }))
      found.push_back(seed);
  return found;
}

bool Difference::same_sign() const {
  return std::all_of(by_seed.begin(), by_seed.end(), [](double d) { return d > 0; }) ||
         std::all_of(by_seed.begin(), by_seed.end(), [](double d) { return d < 0; });
}

std::vector<double> values_at(const json& result, const std::vector<std::string>& path) {
  const json* at = &result;
  for (const auto& name : path) at = &at->at(name);
  return at->get<std::vector<double>>();
}

Difference compare_variants(const StudyResults& results, const std::string& data,
                            const std::string& a, const std::string& b,
                            const std::vector<std::string>& path) {
  SeedScores of_a, of_b;
  for (const auto seed : results.seeds(data, {a, b})) {
    of_a.push_back(values_at(*results.training(a, data, seed), path));
    of_b.push_back(values_at(*results.training(b, data, seed), path));
  }
  return compare_over_seeds(of_a, of_b, results.resamples());
}

Difference compare_over_seeds(const SeedScores& a, const SeedScores& b, std::int64_t resamples) {
  Difference found;
  const auto seeds = static_cast<double>(a.size());
  std::vector<double> mean_a(a.front().size()), mean_b(mean_a.size());
  for (std::size_t s = 0; s < a.size(); ++s) {
    for (std::size_t i = 0; i < mean_a.size(); ++i) {
      mean_a[i] += a[s].at(i) / seeds;
      mean_b[i] += b[s].at(i) / seeds;
    }
    found.by_seed.push_back(compensated_mean(b[s]) - compensated_mean(a[s]));
  }
  const auto over_samples = compare_paired(mean_a, mean_b, resamples, /*seed=*/1);
  found.mean_a = over_samples.mean_a;
  found.mean_b = over_samples.mean_b;
  found.difference = over_samples.difference;
  found.effect_size = over_samples.effect_size;
  if (a.size() == 1) {
    found.low = over_samples.low;
    found.high = over_samples.high;
    found.p = over_samples.p_randomization;
    return found;
  }
  const auto& over_both =
      found.over_seeds.emplace(compare_seeds(a, b, /*paired=*/true, resamples, /*seed=*/1));
  found.low = over_both.low;
  found.high = over_both.high;
  found.p = over_both.p_bootstrap;
  found.seeds_needed = seeds_needed(over_both, over_both.difference);
  return found;
}

nlohmann::ordered_json difference_numbers(const Difference& difference) {
  nlohmann::ordered_json numbers = {{"mean_a", difference.mean_a},
                                    {"mean_b", difference.mean_b},
                                    {"difference", difference.difference},
                                    {"low", difference.low},
                                    {"high", difference.high},
                                    {"p", difference.p},
                                    {"by_seed", difference.by_seed}};
  if (const auto& over_seeds = difference.over_seeds) {
    numbers["p_permutation"] = over_seeds->p_permutation;
    numbers["smallest_difference_seen"] = detectable_difference(*over_seeds, over_seeds->seeds_a);
  }
  if (difference.seeds_needed) numbers["seeds_needed"] = *difference.seeds_needed;
  return numbers;
}

std::string spread_text(const std::vector<double>& values, int digits) {
  if (values.size() == 1) return fixed_text(values[0], digits);
  return fixed_text(compensated_mean(values), digits) + " ± " +
         fixed_text(sample_deviation(values), digits);
}

std::string range_text(const std::vector<double>& values, int digits) {
  if (values.empty()) return "–";
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const auto from = fixed_text(*low, digits), to = fixed_text(*high, digits);
  return from == to ? from : from + " to " + to;
}

std::string interval_text(double low, double high, int digits) {
  std::string text = "[";
  text += fixed_text(low, digits) + ", " + fixed_text(high, digits) + "]";
  return text;
}

std::string verdict(const Difference& difference, double p) {
  if (!(p < 0.05) || !difference.same_sign()) return "no difference found";
  return difference.difference < 0 ? "lower" : "higher";
}

}  // namespace rwkvx

// The samplers: each with its settings, when it does anything, and what it does to the tokens that
// may be drawn. A new one is a struct here, named in AllSamplers and kDefaultChain. kOnDevice says
// whether a device draws with it, too (ops/cuda/draw_token.h).
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "rwkvx/base/field.h"
#include "rwkvx/kernels/softmax.h"
#include "rwkvx/text/tokenizer.h"

namespace rwkvx {

// What a sequence remembers of the tokens that it drew.
struct SamplerMemory {
  std::uint64_t drawn = 0;                   // random numbers used
  std::unordered_map<TokenId, double> seen;  // how often each token was drawn, decayed
};

struct Candidate {
  double logit;
  TokenId id;
};

// The tokens that may be drawn. Never empty.
struct Candidates {
  std::vector<Candidate> list;
  // After find_weights(): their probabilities, not normalized, the sum, and the highest logit.
  std::vector<double> weights;
  double total = 0, highest = 0;

  // At equal logits the lower id comes first.
  static bool likelier(const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  }
  double highest_logit() const {
    double found = list.front().logit;
    for (const auto& one : list) found = std::max(found, one.logit);
    return found;
  }
  void find_weights() {
    weights.resize(list.size());
    for (std::size_t i = 0; i < list.size(); ++i) weights[i] = list[i].logit;
    const auto found = take_exponentials(weights.data(), static_cast<std::int64_t>(weights.size()));
    total = found.sum, highest = found.top;
  }
  // Keeps the first ones, in their order, whose weights reach `enough`; at least one.
  void keep_first(double enough) {
    find_weights();
    double sum = 0;
    std::size_t kept = 0;
    while (kept < weights.size() && (kept == 0 || sum < enough)) sum += weights[kept++];
    list.resize(kept);
  }
  // Keeps the likeliest ones whose weights reach a share of the sum, in order.
  void keep_likeliest(double share) {
    find_weights();
    const double enough = share * total;
    // Only those that come into it are put in order, and few others: the ones within a distance of
    // the highest, in steps, that makes their weights enough.
    constexpr int kSteps = 256;
    constexpr double kStep = 0.125;
    const auto step_of = [&](const Candidate& one) {
      return static_cast<int>(std::min<double>(kSteps - 1, (highest - one.logit) / kStep));
    };
    std::array<double, kSteps> sums{};
    for (std::size_t i = 0; i < list.size(); ++i)
      sums[static_cast<std::size_t>(step_of(list[i]))] += weights[i];
    int last = 0;
    for (double sum = sums[0]; sum < enough && last + 1 < kSteps;)
      sum += sums[static_cast<std::size_t>(++last)];
    std::erase_if(list, [&](const Candidate& one) { return step_of(one) > last; });
    std::sort(list.begin(), list.end(), likelier);
    keep_first(enough);
  }
};

struct Temperature {
  double temperature = 1.0;

  static constexpr std::string_view kName = "temperature";
  static constexpr bool kOnDevice = true;
  static constexpr auto fields() {
    return std::tuple{Field<Temperature, double>{"temperature", &Temperature::temperature,
                                                 "divides the logits; 0 = greedy", 0, 100}};
  }
  bool active() const { return temperature != 1; }
  void apply(Candidates& candidates, const SamplerMemory&) const {
    auto& list = candidates.list;
    if (temperature == 0)
      list = {*std::min_element(list.begin(), list.end(), Candidates::likelier)};
    else
      for (auto& one : list) one.logit /= temperature;
  }
};

struct TopK {
  std::int64_t top_k = 0;

  static constexpr std::string_view kName = "top_k";
  static constexpr bool kOnDevice = true;
  static constexpr auto fields() {
    return std::tuple{Field<TopK, std::int64_t>{
        "top_k", &TopK::top_k, "keep only the k most likely tokens; 0 = all", 0, 1 << 24}};
  }
  bool active() const { return top_k > 0; }
  void apply(Candidates& candidates, const SamplerMemory&) const {
    auto& list = candidates.list;
    const auto k = std::min(static_cast<std::size_t>(top_k), list.size());
    std::partial_sort(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(k), list.end(),
                      Candidates::likelier);
    list.resize(k);
  }
};

// Nucleus sampling, arXiv 1904.09751.
struct TopP {
  double top_p = 1.0;

  static constexpr std::string_view kName = "top_p";
  static constexpr bool kOnDevice = true;
  static constexpr auto fields() {
    return std::tuple{Field<TopP, double>{
        "top_p", &TopP::top_p, "keep the most likely tokens that together reach this probability",
        1e-9, 1.0}};
  }
  bool active() const { return top_p < 1; }
  void apply(Candidates& candidates, const SamplerMemory&) const {
    candidates.keep_likeliest(top_p);
  }
};

// arXiv 2407.01082.
struct MinP {
  double min_p = 0.0;

  static constexpr std::string_view kName = "min_p";
  static constexpr bool kOnDevice = true;
  static constexpr auto fields() {
    return std::tuple{Field<MinP, double>{
        "min_p", &MinP::min_p,
        "drop tokens below this share of the most likely token's probability", 0, 1}};
  }
  bool active() const { return min_p > 0; }
  void apply(Candidates& candidates, const SamplerMemory&) const {
    const double least = candidates.highest_logit() + std::log(min_p);
    std::erase_if(candidates.list, [&](const Candidate& one) { return one.logit < least; });
  }
};

// Tokens whose surprise is nearest the entropy, arXiv 2202.00666.
struct Typical {
  double typical_p = 1.0;

  static constexpr std::string_view kName = "typical";
  static constexpr bool kOnDevice = false;
  static constexpr auto fields() {
    return std::tuple{renamed(
        "typical",
        Field<Typical, double>{"typical_p", &Typical::typical_p,
                               "keep the most typical tokens that together reach this probability",
                               1e-9, 1.0})};
  }
  bool active() const { return typical_p < 1; }
  void apply(Candidates& candidates, const SamplerMemory&) const {
    candidates.find_weights();
    const double total = candidates.total;
    double entropy = 0;
    for (const double weight : candidates.weights)
      if (weight > 0) entropy -= weight / total * std::log(weight / total);
    // logit - shift = log probability
    const double shift = candidates.highest + std::log(total);
    const auto distance = [&](const Candidate& one) {
      return std::abs(shift - one.logit - entropy);
    };
    std::sort(candidates.list.begin(), candidates.list.end(), [&](const auto& a, const auto& b) {
      const double x = distance(a), y = distance(b);
      return x != y ? x < y : a.id < b.id;
    });
    candidates.keep_first(typical_p * total);
  }
};

// Of tokens that were drawn: repetition (CTRL, arXiv 1909.05858), presence and frequency.
struct Penalties {
  double repetition_penalty = 1.0;
  double presence_penalty = 0.0;
  double frequency_penalty = 0.0;
  double penalty_decay = 1.0;

  static constexpr std::string_view kName = "penalties";
  static constexpr bool kOnDevice = true;
  static constexpr auto fields() {
    using D = Field<Penalties, double>;
    return std::tuple{
        D{"repetition_penalty", &Penalties::repetition_penalty,
          "divides positive logits of tokens drawn before, multiplies negative ones", 0.01, 100},
        D{"presence_penalty", &Penalties::presence_penalty,
          "subtracted from the logits of tokens drawn before", -100, 100},
        D{"frequency_penalty", &Penalties::frequency_penalty,
          "subtracted from a token's logit for each time it was drawn", -100, 100},
        D{"penalty_decay", &Penalties::penalty_decay,
          "each new token multiplies the counts of frequency_penalty by this", 0, 1},
    };
  }
  bool active() const {
    return repetition_penalty != 1 || presence_penalty != 0 || frequency_penalty != 0;
  }
  void apply(Candidates& candidates, const SamplerMemory& memory) const {
    auto& list = candidates.list;
    const auto punish = [&](double& logit, double count) {
      logit = logit > 0 ? logit / repetition_penalty : logit * repetition_penalty;
      logit -= presence_penalty + frequency_penalty * count;
    };
    if (!std::ranges::is_sorted(list, {}, &Candidate::id)) {
      for (auto& [logit, id] : list)
        if (const auto found = memory.seen.find(id); found != memory.seen.end())
          punish(logit, found->second);
      return;
    }
    // In the order of their ids, of which few were drawn.
    for (const auto& [id, count] : memory.seen)
      if (const auto found = std::ranges::lower_bound(list, id, {}, &Candidate::id);
          found != list.end() && found->id == id)
        punish(found->logit, count);
  }
};

// GenerateConfig has the settings of all of them, in this order.
template <class... Samplers>
struct SamplerSettings : Samplers... {
  using Table = std::tuple<Samplers...>;
  template <class Visit>  // visit(sampler) for each
  constexpr void for_each_sampler(const Visit& visit) const {
    (visit(static_cast<const Samplers&>(*this)), ...);
  }
  // The rows of all samplers as rows of a struct that inherits from this one.
  template <class Config>
  static constexpr auto sampler_fields() {
    return std::tuple_cat(rows_of<Config>(Samplers::fields())...);
  }

 private:
  template <class Config, class Rows>
  static constexpr auto rows_of(const Rows& rows) {
    return std::apply([](const auto&... row) { return std::tuple{row_of<Config>(row)...}; }, rows);
  }
  template <class Config, class Sampler, class Value>
  static constexpr Field<Config, Value> row_of(const Field<Sampler, Value>& row) {
    return {row.name, row.member, row.help, row.min, row.max, row.old_name, row.added};
  }
};
using AllSamplers = SamplerSettings<Temperature, TopK, TopP, MinP, Typical, Penalties>;
inline constexpr std::string_view kDefaultChain = "penalties,temperature,top_k,typical,top_p,min_p";

}  // namespace rwkvx

#include "rwkvx/generate/generate_config.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

#include "rwkvx/base/error.h"
#include "rwkvx/base/nearest.h"

namespace rwkvx {
namespace {

// Larger ones change nothing more, and sums of them stay finite.
constexpr double kLargestBias = 1e6;

std::int64_t read_id(const char* name, std::string_view text, std::string_view whole,
                     const char* expected) {
  std::int64_t id = -1;
  const auto* end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, id);
  if (read.ec != std::errc() || read.ptr != end || id < 0 || id > INT32_MAX)
    throw ConfigError(name,
                      std::string("expected ") + expected + ", got \"" + std::string(whole) + "\"");
  return id;
}

}  // namespace

std::vector<std::int64_t> GenerateConfig::banned_ids() const {
  std::vector<std::int64_t> ids;
  for (const auto& text : ban_id)
    ids.push_back(read_id("ban_id", text, text, "a token id, a whole number from 0"));
  return ids;
}

std::map<std::int64_t, double> GenerateConfig::biases() const {
  std::map<std::int64_t, double> biases;
  for (const auto& text : bias) {
    const std::string_view all(text);
    const auto equals = all.find('=');
    const auto id = read_id("bias", all.substr(0, equals), all,
                            "ID=X with a token id and a number, for example 42=-1.5");
    std::string_view number = equals == all.npos ? "" : all.substr(equals + 1);
    if (number.starts_with('+') && !number.starts_with("+-")) number.remove_prefix(1);
    double value = NAN;
    const auto* end = number.data() + number.size();
    const auto read = std::from_chars(number.data(), end, value);
    const bool is_number = read.ec == std::errc() && read.ptr == end && !std::isnan(value);
    if (is_number && value == INFINITY)
      throw ConfigError("bias", "expected a finite number or -inf, got \"" + text +
                                    "\"; use prefix to force a text");
    if (!is_number || (std::isfinite(value) && std::abs(value) > kLargestBias))
      throw ConfigError("bias",
                        "expected ID=X with a token id and a number from -1e6 to 1e6 or -inf, for "
                        "example 42=-1.5, got \"" +
                            text + "\"");
    biases[id] = value;
  }
  return biases;
}

std::vector<std::string> GenerateConfig::sampler_chain() const {
  std::vector<std::string> known;
  for_each_sampler([&](const auto& sampler) { known.emplace_back(sampler.kName); });
  std::vector<std::string> chain;
  for (std::size_t begin = 0; begin <= samplers.size() && !samplers.empty();) {
    const auto end = std::min(samplers.find(',', begin), samplers.size());
    chain.push_back(samplers.substr(begin, end - begin));
    if (std::find(known.begin(), known.end(), chain.back()) == known.end())
      throw ConfigError("samplers", "expected names out of " + name_list(known) +
                                        ", separated by commas, got \"" + chain.back() + "\"" +
                                        did_you_mean(chain.back(), known));
    begin = end + 1;
  }
  return chain;
}

void GenerateConfig::check(const std::string&) const {
  sampler_chain();
  banned_ids();
  biases();
}

}  // namespace rwkvx

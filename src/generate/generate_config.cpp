#include "rwkvx/generate/generate_config.h"

#include <algorithm>

#include "rwkvx/base/error.h"
#include "rwkvx/base/nearest.h"

namespace rwkvx {

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

void GenerateConfig::check(const std::string&) const { sampler_chain(); }

}  // namespace rwkvx

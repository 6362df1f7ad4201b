#include "rwkvx/study/study.h"

#include <algorithm>

namespace rwkvx {

// Each is defined in the file of its name.
extern const Study kAblation, kComplexity, kDomains, kBoundaries, kFailures, kTasks;

std::span<const Study* const> studies() {
  static constexpr const Study* kStudies[] = {&kAblation,   &kComplexity, &kDomains,
                                              &kBoundaries, &kFailures,   &kTasks};
  return kStudies;
}

const Study* study_named(std::string_view name) {
  const auto all = studies();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const Study* one) { return one->name == name; });
  return found == all.end() ? nullptr : *found;
}

std::vector<std::string> study_names() {
  std::vector<std::string> names;
  for (const auto* study : studies()) names.emplace_back(study->name);
  return names;
}

}  // namespace rwkvx

#include "rwkvx/synth/synth.h"

#include "rwkvx/base/error.h"
#include "rwkvx/base/nearest.h"
#include "rwkvx/base/splitmix64.h"

namespace rwkvx {

extern const SynthTask kStories;                    // story.cpp
extern const SynthTask kCopy, kInduction, kRecall;  // memory_tasks.cpp

std::span<const SynthTask* const> synth_tasks() {
  static constexpr const SynthTask* kTasks[] = {&kStories, &kCopy, &kInduction, &kRecall};
  return kTasks;
}

const SynthTask& synth_task(std::string_view name, const std::string& where) {
  std::vector<std::string> names;
  for (const auto* task : synth_tasks()) {
    if (task->name == name) return *task;
    names.emplace_back(task->name);
  }
  throw ConfigError(where, "must be one of " + name_list(names) + ", got \"" + std::string(name) +
                               "\"" + did_you_mean(name, names));
}

SynthDocument synth_document(const SynthTask& task, std::uint64_t seed, std::uint64_t index) {
  return task.make(splitmix64(splitmix64(seed, task.number), index));
}

}  // namespace rwkvx

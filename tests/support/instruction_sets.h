// Runs a check once per instruction set that the kernels were compiled for and the machine has.
#pragma once

#include <hwy/highway.h>

#include <string>

namespace rwkvx::test {

template <class Run>
void for_each_instruction_set(const Run& run) {
  for (const auto target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    run(std::string(hwy::TargetName(target)));
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace rwkvx::test

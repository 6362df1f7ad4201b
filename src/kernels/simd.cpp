#include "rwkvx/kernels/simd.h"

#include <hwy/targets.h>
#if HWY_ARCH_X86
#include <cpuid.h>
#endif

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/nearest.h"

namespace rwkvx {
namespace {

constexpr char kVariable[] = "RWKVX_SIMD";

std::atomic<bool> dot_allowed{true};

// What the kernels were compiled for, the best first, as Highway orders its bits.
struct InstructionSet {
  std::string name;
  std::int64_t target = 0;
  bool dot = false;
};

#if HWY_ARCH_X86
// Older compilers do not know it by name.
bool has_avx_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 &&
         (a >> 4 & 1) != 0;
}
#endif

bool is_wide([[maybe_unused]] std::int64_t target) {
#if HWY_ARCH_X86
  return target == HWY_AVX3;
#else
  return false;
#endif
}

const std::vector<InstructionSet>& instruction_sets() {
  static const auto sets = [] {
    std::vector<InstructionSet> all;
    for (std::int64_t left = HWY_TARGETS; left != 0; left &= left - 1) {
      const std::int64_t target = left & -left;
#if HWY_ARCH_X86
      if (target == HWY_AVX3 || target == HWY_AVX2) {
        const std::string name = is_wide(target) ? "avx512" : "avx2";
        all.push_back({name + "_vnni", target, true});
        all.push_back({name, target, false});
        continue;
      }
#endif
      std::string name = hwy::TargetName(target);
      std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
      all.push_back({name, target, false});
    }
    return all;
  }();
  return sets;
}

// Those of the CPU that are not disabled. While Highway looks for them it takes all that the CPU
// has as chosen, so they are chosen again.
std::int64_t choose_targets() {
  const std::int64_t targets = hwy::SupportedTargets();
  hwy::GetChosenTarget().Update(targets);
  return targets;
}

void disable(std::int64_t targets, bool dot) {
  hwy::DisableTargets(targets);
  dot_allowed = dot;
  choose_targets();
}

}  // namespace

void choose_simd() {
  const char* given = std::getenv(kVariable);
  const std::string name = given == nullptr ? "" : given;
  if (name.empty()) return disable(0, true);
  const auto& sets = instruction_sets();
  for (const auto& one : sets)
    if (one.name == name) return disable(one.target - 1, one.dot);
  std::vector<std::string> names;
  names.reserve(sets.size());
  for (const auto& one : sets) names.push_back(one.name);
  throw ConfigError(kVariable, "expected one of " + name_list(names) + ", got \"" + name + "\"" +
                                   did_you_mean(name, names));
}

std::string_view simd_name() {
  const auto targets = choose_targets();
  for (const auto& one : instruction_sets())
    if ((one.target & targets) != 0 && (!one.dot || uses_dot_instructions(is_wide(one.target))))
      return one.name;
  return "";
}

bool uses_dot_instructions(bool wide) {
#if HWY_ARCH_X86
  static const bool has512 = __builtin_cpu_supports("avx512vnni");
  static const bool has256 = has_avx_vnni();
  return (wide ? has512 : has256) && dot_allowed.load(std::memory_order_relaxed);
#else
  return false;
#endif
}

void allow_dot_instructions(bool allowed) { dot_allowed = allowed; }

}  // namespace rwkvx

// How many processors this process may use.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace rwkvx {

// What is known of the processors of a process.
struct Processors {
  std::int64_t present = 1;     // of the machine, switched on
  std::int64_t allowed = 1;     // by the affinity of the process
  std::optional<double> quota;  // CPU seconds per second, of its control groups
  std::string wish;             // the variable OMP_NUM_THREADS; "" where it is not set
};

// Of this process, found at the first call.
const Processors& processors();

// The smallest CPU quota of the control groups that a process is in, from the one that
// /proc/self/cgroup names up to the top of what is mounted; version 1 (cpu.cfs_quota_us,
// cpu.cfs_period_us) and 2 (cpu.max), also both at once. None where no group has one. Files that
// are missing or make no sense count as none. `root` is "/" but in tests: the directory that holds
// proc and what is mounted.
std::optional<double> cgroup_quota(const std::filesystem::path& root);

// Threads to use, and in words why: "2 of 2 processors", "1: the container's quota is 1.0
// processors".
struct ThreadChoice {
  std::int64_t threads;
  std::string reason;
};
// `wanted` threads; 0: OMP_NUM_THREADS if it is a number, else one per allowed processor, and no
// more than the quota, rounded to the nearest.
ThreadChoice choose_threads(std::int64_t wanted, const Processors& processors);

}  // namespace rwkvx

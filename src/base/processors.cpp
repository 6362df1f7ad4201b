#include "rwkvx/base/processors.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string_view>
#include <vector>

namespace rwkvx {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMostThreads = 1024;
constexpr std::size_t kMostBytes = 1 << 20;  // read of one file
constexpr std::size_t kMostPath = 4096;      // of a group's name

// The beginning of a file; "" where there is none.
std::string beginning_of(const fs::path& path, std::size_t most) {
  std::error_code error;
  const auto kind = fs::status(path, error).type();
  if (kind != fs::file_type::regular) return {};
  std::ifstream in(path, std::ios::binary);
  std::string text(most, '\0');
  in.read(text.data(), static_cast<std::streamsize>(most));
  text.resize(static_cast<std::size_t>(in.gcount()));
  return text;
}

std::vector<std::string> words_of(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

bool lists(std::string_view list, std::string_view name) {
  for (std::size_t begin = 0; begin <= list.size();) {
    const auto end = std::min(list.find(',', begin), list.size());
    if (list.substr(begin, end - begin) == name) return true;
    begin = end + 1;
  }
  return false;
}

std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Microseconds per period of so many.
std::optional<double> quotient(std::string_view quota, std::string_view period) {
  const auto above = whole_number(quota), below = whole_number(period);
  if (!above || !below || *above <= 0 || *below <= 0) return std::nullopt;
  return static_cast<double>(*above) / static_cast<double>(*below);
}

// The quota of one group alone.
std::optional<double> quota_of_group(const fs::path& group, bool version2) {
  constexpr std::size_t kFew = 256;
  if (version2) {
    const auto words = words_of(beginning_of(group / "cpu.max", kFew));
    return words.size() == 2 ? quotient(words[0], words[1]) : std::nullopt;
  }
  const auto quota = words_of(beginning_of(group / "cpu.cfs_quota_us", kFew));
  const auto period = words_of(beginning_of(group / "cpu.cfs_period_us", kFew));
  return quota.size() == 1 && period.size() == 1 ? quotient(quota[0], period[0]) : std::nullopt;
}

// A field of mountinfo, in which blanks and backslashes are written as \040.
std::string unescape(std::string_view field) {
  std::string out;
  for (std::size_t i = 0; i < field.size(); ++i) {
    const auto digits = field.substr(i + 1, 3);
    if (field[i] == '\\' && digits.size() == 3 &&
        std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '7'; })) {
      out += static_cast<char>((digits[0] - '0') * 64 + (digits[1] - '0') * 8 + digits[2] - '0');
      i += 3;
    } else {
      out += field[i];
    }
  }
  return out;
}

// The way from the group `top`, which is mounted, down to the process's `group`; empty where it is
// not below.
fs::path below(const fs::path& group, const fs::path& top) {
  const auto way = group.lexically_relative(top);
  for (const auto& part : way)
    if (part == "..") return {};
  return way == "." ? fs::path() : way;
}

}  // namespace

std::optional<double> cgroup_quota(const fs::path& root) {
  // The process's group in the hierarchy of version 2, and in that of version 1 with "cpu".
  std::string groups[2];
  std::istringstream own(beginning_of(root / "proc/self/cgroup", kMostBytes));
  for (std::string line; std::getline(own, line);) {
    const auto first = line.find(':');
    const auto second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos || line.size() > kMostPath) continue;
    const auto controllers = line.substr(first + 1, second - first - 1);
    if (controllers.empty()) groups[0] = line.substr(second + 1);
    if (lists(controllers, "cpu")) groups[1] = line.substr(second + 1);
  }
  std::optional<double> least;
  std::istringstream mounts(beginning_of(root / "proc/self/mountinfo", kMostBytes));
  for (std::string line; std::getline(mounts, line);) {
    // … ROOT MOUNTED OPTIONS [more] - TYPE SOURCE OPTIONS
    const auto words = words_of(line);
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (dash - words.begin() < 6 || words.end() - dash < 4) continue;
    const bool version2 = dash[1] == "cgroup2";
    if (!version2 && !(dash[1] == "cgroup" && lists(dash[3], "cpu"))) continue;
    const auto& group = groups[version2 ? 0 : 1];
    if (group.empty()) continue;
    const fs::path mounted = root / fs::path(unescape(words[4])).relative_path();
    auto way = below(fs::path(group).lexically_normal(), unescape(words[3]));
    for (;;) {
      const auto quota = quota_of_group(mounted / way, version2);
      if (quota && (!least || *quota < *least)) least = quota;
      if (way.empty()) break;
      way = way.parent_path();
    }
  }
  return least;
}

const Processors& processors() {
  static const Processors found = [] {
    Processors all;
    all.present = std::max<std::int64_t>(1, ::sysconf(_SC_NPROCESSORS_ONLN));
    all.allowed = all.present;
    // The set must have room for all processors that the kernel may have.
    for (int room = 1024; room <= 1 << 20; room *= 2) {
      cpu_set_t* set = CPU_ALLOC(room);
      if (set == nullptr) break;
      const auto bytes = CPU_ALLOC_SIZE(room);
      const bool known = ::sched_getaffinity(0, bytes, set) == 0;
      if (known) all.allowed = std::max(1, CPU_COUNT_S(bytes, set));
      CPU_FREE(set);
      if (known || errno != EINVAL) break;
    }
    all.quota = cgroup_quota("/");
    if (const char* wish = std::getenv("OMP_NUM_THREADS")) all.wish = wish;
    return all;
  }();
  return found;
}

ThreadChoice choose_threads(std::int64_t wanted, const Processors& processors) {
  if (wanted > 0) return {wanted, std::to_string(wanted) + ": as asked for"};
  // A list has a number for each level of nesting.
  const auto wish = whole_number(processors.wish.substr(0, processors.wish.find(',')));
  if (wish && *wish > 0 && *wish <= kMostThreads)
    return {*wish, std::to_string(*wish) + ": OMP_NUM_THREADS"};
  const auto allowed = std::min(processors.allowed, kMostThreads);
  if (processors.quota && std::round(*processors.quota) < static_cast<double>(allowed)) {
    const auto threads = std::max<std::int64_t>(1, std::llround(*processors.quota));
    std::ostringstream text;
    text << threads << ": the container's quota is " << std::fixed;
    text.precision(*processors.quota < 0.095 ? 2 : 1);
    text << *processors.quota << " processors";
    return {threads, text.str()};
  }
  return {allowed,
          std::to_string(allowed) + " of " + std::to_string(processors.present) + " processors"};
}

}  // namespace rwkvx

#include "rwkvx/base/launch.h"

#include <arpa/inet.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <string_view>

#include "rwkvx/base/error.h"

namespace rwkvx {
namespace {

constexpr int kMostRanks = 1 << 16;
// Ports that come from a job's number: below those that systems give to outgoing connections.
constexpr int kFirstPort = 15000, kPorts = 15000;

class Environment {
 public:
  explicit Environment(const Variables& variable) : variable_(variable) {}

  std::string text(const char* name) const {
    const char* value = variable_(name);
    return value == nullptr ? "" : value;
  }
  bool has(const char* name) const { return !text(name).empty(); }
  // A number in [least, most]; `otherwise` where it is not set.
  int number(const char* name, int least, int most, std::optional<int> otherwise = {}) const {
    const auto value = text(name);
    if (value.empty()) {
      if (otherwise) return *otherwise;
      throw ConfigError(name, "is not set, but other variables of its launcher are");
    }
    int number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size() || number < least ||
        number > most)
      throw ConfigError(name, "expected a number from " + std::to_string(least) + " to " +
                                  std::to_string(most) + ", got \"" + value + "\"");
    return number;
  }
  void ranks(const char* rank, const char* size, RankPlace& place) const {
    place.size = number(size, 1, kMostRanks);
    place.rank = number(rank, 0, place.size - 1);
  }
  void local(const char* rank, const char* size, RankPlace& place) const {
    place.local_size = number(size, 1, place.size, 1);
    place.local_rank = number(rank, 0, place.local_size - 1, 0);
  }

 private:
  const Variables& variable_;
};

// When a process began, in the kernel's ticks: with its id and machine no other has the same.
std::string start_of(pid_t process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  // The command's name, in parentheses, may hold anything; 20 fields after it comes the time.
  auto begin = text.rfind(')');
  for (int field = 0; field < 20 && begin != std::string::npos; ++field)
    begin = text.find(' ', begin + 1);
  if (begin == std::string::npos) return "";
  return text.substr(begin + 1, text.find(' ', begin + 1) - begin - 1);
}

std::string host_name() {
  char name[256] = "";
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "";
}

void place_of_torchrun(const Environment& environment, RankPlace& place) {
  place.launcher = "torchrun";
  environment.ranks("RANK", "WORLD_SIZE", place);
  environment.local("LOCAL_RANK", "LOCAL_WORLD_SIZE", place);
  place.restarts = environment.number("TORCHELASTIC_RESTART_COUNT", 0, 1 << 30, 0);
  place.agent_store = environment.text("TORCHELASTIC_USE_AGENT_STORE") == "True";
  place.job = "/worker/attempt_" + std::to_string(place.restarts);
  if (!environment.has("TORCHELASTIC_RUN_ID")) return;
  // A job that nobody named is known by the agent that started this process.
  const auto id = environment.text("TORCHELASTIC_RUN_ID");
  place.restarted_job = id != "none"
                            ? "torchrun " + id
                            : "torchrun " + host_name() + " " + std::to_string(::getppid()) + " " +
                                  start_of(::getppid());
}

// "ID;tcp://192.168.1.5:4711;…" -> 192.168.1.5; "" for anything else.
std::string address_in(const std::string& uri) {
  constexpr std::string_view kBegin = "tcp://";
  const auto begin = uri.find(kBegin);
  if (begin == std::string::npos) return "";
  const auto first = begin + kBegin.size();
  const auto address = uri.substr(first, uri.find_first_of(":,;", first) - first);
  in_addr parsed{};
  return ::inet_pton(AF_INET, address.c_str(), &parsed) == 1 ? address : "";
}

void place_of_mpi(const Environment& environment, RankPlace& place) {
  place.launcher = "mpirun";
  if (environment.has("OMPI_COMM_WORLD_SIZE")) {
    environment.ranks("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", place);
    environment.local("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE", place);
    place.job = environment.text("PMIX_NAMESPACE");
    if (place.job.empty()) place.job = environment.text("OMPI_MCA_ess_base_jobid");
    place.address = address_in(environment.text("OMPI_MCA_orte_hnp_uri"));
    return;
  }
  environment.ranks("PMI_RANK", "PMI_SIZE", place);
  environment.local("MPI_LOCALRANKID", "MPI_LOCALNRANKS", place);
  place.job = environment.text("PMI_JOBID");
}

void place_of_slurm(const Environment& environment, RankPlace& place) {
  place.launcher = "srun";
  environment.ranks("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", place);
  place.local_rank = environment.number("SLURM_LOCALID", 0, place.size - 1, 0);
  // "2(x3),1": so many tasks on each machine.
  const auto tasks = environment.text("SLURM_STEP_TASKS_PER_NODE");
  std::from_chars(tasks.data(), tasks.data() + tasks.size(), place.local_size);
  place.local_size = std::clamp(place.local_size, place.local_rank + 1, place.size);
  place.job = environment.text("SLURM_JOB_ID") + "." + environment.text("SLURM_STEP_ID");
}

}  // namespace

std::string first_host(const std::string& list) {
  const auto open = list.find('['), comma = list.find(',');
  if (open == std::string::npos || comma < open) return list.substr(0, comma);
  return list.substr(0, open) +
         list.substr(open + 1, list.find_first_of(",-]", open + 1) - open - 1);
}

RankPlace rank_place(const Variables& variable) {
  const Environment environment(variable);
  RankPlace place;
  if (environment.has("RANK") && environment.has("WORLD_SIZE"))
    place_of_torchrun(environment, place);
  else if (environment.has("OMPI_COMM_WORLD_SIZE") || environment.has("PMI_SIZE"))
    place_of_mpi(environment, place);
  else if (environment.has("SLURM_STEP_NUM_TASKS") && environment.has("SLURM_PROCID"))
    place_of_slurm(environment, place);
  if (place.size == 1) return place;
  if (environment.has("MASTER_ADDR"))
    place.address = environment.text("MASTER_ADDR");
  else if (place.local_size == place.size)
    place.address = "127.0.0.1";
  else if (environment.has("SLURM_STEP_NODELIST"))
    place.address = first_host(environment.text("SLURM_STEP_NODELIST"));
  if (place.address.empty())
    throw ConfigError("MASTER_ADDR", "expected the name of the machine of rank 0, as " +
                                         place.launcher + " does not tell it");
  if (environment.has("MASTER_PORT")) {
    place.port = environment.number("MASTER_PORT", 1, 65535);
  } else {
    std::uint32_t hash = 2166136261u;  // FNV-1a
    for (const unsigned char c : place.job) hash = (hash ^ c) * 16777619u;
    place.port = kFirstPort + static_cast<int>(hash % kPorts);
  }
  return place;
}

const RankPlace& own_rank_place() {
  static const RankPlace place = rank_place([](const char* name) { return std::getenv(name); });
  return place;
}

}  // namespace rwkvx

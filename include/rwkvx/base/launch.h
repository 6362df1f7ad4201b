// Which of several processes of one job this is, as its launcher's variables say.
#pragma once

#include <functional>
#include <string>

namespace rwkvx {

struct RankPlace {
  int rank = 0, size = 1;              // of all processes
  int local_rank = 0, local_size = 1;  // of those on this machine
  std::string address;                 // of the machine of rank 0
  int port = 0;                        // where rank 0 listens there, or torchrun's agent
  bool agent_store = false;            // torchrun's agent has the store
  std::string job;                     // another one for each job, and for each restart
  int restarts = 0;                    // of this job by its launcher so far
  std::string launcher;                // torchrun, mpirun or srun; "" for a process alone
  // What stays the same over the restarts of a job; "" where it cannot be restarted.
  std::string restarted_job;
};

// Recognizes, the first that is there: torchrun's RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE,
// MASTER_ADDR, MASTER_PORT and TORCHELASTIC_…; Open MPI's OMPI_COMM_WORLD_…; PMI_RANK and PMI_SIZE
// of other MPIs; Slurm's SLURM_PROCID and SLURM_STEP_NUM_TASKS within srun. The address is
// MASTER_ADDR where that is set, else the first machine of Slurm's list, Open MPI's own machine, or
// 127.0.0.1 where all processes are on one; the port is MASTER_PORT, else it comes from the job's
// number. `variable` looks one up, null where it is not set. Throws ConfigError naming the variable
// that makes no sense.
using Variables = std::function<const char*(const char*)>;
RankPlace rank_place(const Variables& variable);
// Of this process.
const RankPlace& own_rank_place();

// The first name of Slurm's form of a list of machines, "node[01-04,7],login" -> "node01".
std::string first_host(const std::string& list);

}  // namespace rwkvx

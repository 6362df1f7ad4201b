#include "rwkvx/base/launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "rwkvx/base/error.h"

namespace rwkvx {
namespace {

RankPlace place_in(const std::map<std::string, std::string>& variables) {
  return rank_place([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

std::string refusal(const std::map<std::string, std::string>& variables) {
  try {
    place_in(variables);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Launch, AProcessWithoutALauncherIsAlone) {
  for (const auto& variables : {std::map<std::string, std::string>{},
                                {{"RANK", "3"}},
                                {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}}}) {
    const auto place = place_in(variables);
    EXPECT_EQ(place.size, 1);
    EXPECT_EQ(place.launcher, "");
  }
}

TEST(Launch, TorchrunsVariablesGivePlaceAndRestarts) {
  const auto place = place_in({{"RANK", "5"},
                               {"WORLD_SIZE", "8"},
                               {"LOCAL_RANK", "1"},
                               {"LOCAL_WORLD_SIZE", "4"},
                               {"MASTER_ADDR", "box"},
                               {"MASTER_PORT", "29500"},
                               {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                               {"TORCHELASTIC_RESTART_COUNT", "2"},
                               {"TORCHELASTIC_RUN_ID", "mine"}});
  EXPECT_EQ(place.rank, 5);
  EXPECT_EQ(place.size, 8);
  EXPECT_EQ(place.local_rank, 1);
  EXPECT_EQ(place.local_size, 4);
  EXPECT_EQ(place.address, "box");
  EXPECT_EQ(place.port, 29500);
  EXPECT_TRUE(place.agent_store);
  EXPECT_EQ(place.restarts, 2);
  EXPECT_EQ(place.job, "/worker/attempt_2");
  EXPECT_EQ(place.restarted_job, "torchrun mine");
}

TEST(Launch, MpirunsVariablesGiveAPlaceOnOneMachineOrOnSeveral) {
  std::map<std::string, std::string> variables = {
      {"OMPI_COMM_WORLD_RANK", "1"},
      {"OMPI_COMM_WORLD_SIZE", "2"},
      {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
      {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
      {"PMIX_NAMESPACE", "1023737857"},
      {"OMPI_MCA_orte_hnp_uri", "1023737856.0;tcp://192.0.2.2:47251;tcp6://[fd00::2]:55637"}};
  const auto place = place_in(variables);
  EXPECT_EQ(place.rank, 1);
  EXPECT_EQ(place.address, "127.0.0.1");
  EXPECT_GE(place.port, 15000);
  EXPECT_LT(place.port, 30000);
  variables["OMPI_COMM_WORLD_LOCAL_RANK"] = "0";
  variables["OMPI_COMM_WORLD_LOCAL_SIZE"] = "1";
  EXPECT_EQ(place_in(variables).address, "192.0.2.2");
  variables["MASTER_ADDR"] = "first";
  EXPECT_EQ(place_in(variables).address, "first");
  const auto other = place_in({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}, {"MASTER_ADDR", "first"}});
  EXPECT_EQ(other.rank, 1);
  EXPECT_EQ(other.launcher, "mpirun");
}

TEST(Launch, SrunsVariablesGiveAPlace) {
  const auto place = place_in({{"SLURM_PROCID", "3"},
                               {"SLURM_STEP_NUM_TASKS", "4"},
                               {"SLURM_LOCALID", "1"},
                               {"SLURM_STEP_TASKS_PER_NODE", "2(x2)"},
                               {"SLURM_STEP_NODELIST", "node[07-08]"},
                               {"SLURM_JOB_ID", "991"},
                               {"SLURM_STEP_ID", "0"}});
  EXPECT_EQ(place.rank, 3);
  EXPECT_EQ(place.size, 4);
  EXPECT_EQ(place.local_rank, 1);
  EXPECT_EQ(place.local_size, 2);
  EXPECT_EQ(place.address, "node07");
  EXPECT_EQ(place.launcher, "srun");
}

TEST(Launch, TheFirstMachineOfAListIsFound) {
  EXPECT_EQ(first_host("a"), "a");
  EXPECT_EQ(first_host("a,b"), "a");
  EXPECT_EQ(first_host("node[01-04,7],login"), "node01");
  EXPECT_EQ(first_host("x,node[01-04]"), "x");
  EXPECT_EQ(first_host("gpu[3,9]"), "gpu3");
}

TEST(Launch, VariablesThatMakeNoSenseAreNamed) {
  EXPECT_EQ(refusal({{"RANK", "2"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}}),
            "RANK: expected a number from 0 to 1, got \"2\"");
  EXPECT_EQ(refusal({{"RANK", "0"}, {"WORLD_SIZE", "many"}}),
            "WORLD_SIZE: expected a number from 1 to 65536, got \"many\"");
  EXPECT_THAT(refusal({{"RANK", "0"}, {"WORLD_SIZE", "2"}}), testing::HasSubstr("MASTER_ADDR"));
  EXPECT_THAT(refusal({{"OMPI_COMM_WORLD_SIZE", "2"}}), testing::HasSubstr("OMPI_COMM_WORLD_RANK"));
}

}  // namespace
}  // namespace rwkvx

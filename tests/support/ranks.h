// Several processes of the program that train together on this machine, without a launcher.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/program.h"

namespace rwkvx {

class RankJob {
 public:
  // Each with the same arguments; `more` are flags of one rank alone.
  RankJob(int ranks, const std::vector<std::string>& args,
          const std::vector<std::pair<int, std::vector<std::string>>>& more = {}) {
    static int jobs = 0;
    const int port = 15000 + (::getpid() * 16 + jobs++) % 17000;
    std::vector<std::string> names;
    const auto set = [&](const std::string& name, const std::string& value) {
      ::setenv(name.c_str(), value.c_str(), 1);
      names.push_back(name);
    };
    set("MASTER_ADDR", "127.0.0.1");
    set("MASTER_PORT", std::to_string(port));
    set("WORLD_SIZE", std::to_string(ranks));
    set("LOCAL_WORLD_SIZE", std::to_string(ranks));
    for (int rank = 0; rank < ranks; ++rank) {
      set("RANK", std::to_string(rank));
      set("LOCAL_RANK", std::to_string(rank));
      auto own = args;
      for (const auto& [of, flags] : more)
        if (of == rank) own.insert(own.end(), flags.begin(), flags.end());
      ranks_.push_back(std::make_unique<Program>(own));
    }
    for (const auto& name : names) ::unsetenv(name.c_str());
  }
  const Program& operator[](int rank) const { return *ranks_[static_cast<std::size_t>(rank)]; }
  // Of all, in order.
  std::vector<ProgramResult> results() const {
    std::vector<ProgramResult> all;
    for (const auto& one : ranks_) all.push_back(one->result());
    return all;
  }

 private:
  std::vector<std::unique_ptr<Program>> ranks_;
};

}  // namespace rwkvx

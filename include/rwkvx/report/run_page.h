// The page of `rwkvx plot`: the logs of training runs as curves over each other.
#pragma once

#include <string>
#include <vector>

#include "rwkvx/report/run_log.h"

namespace rwkvx {

struct RunPageOptions {
  bool by_tokens = false;  // tokens on the x axis in place of steps
  int reload_seconds = 0;  // the page loads itself again so often; 0: it does not
};

// Short names that tell runs apart: the last part of each directory's path, and as many parts
// before it as it takes.
std::vector<std::string> run_names(const std::vector<RunLog>& runs);

// One HTML page that needs nothing beside itself.
std::string run_page(const std::vector<RunLog>& runs, const RunPageOptions& options);

}  // namespace rwkvx

// White space between a prompt and what follows it.
#pragma once

#include "rwkvx/generate/likelihood.h"

namespace rwkvx {

// Moves white space at the prompt's end to the beginning of each continuation, as
// lm-evaluation-harness does before it takes joint tokens.
void move_space(LikelihoodRequest& request);

}  // namespace rwkvx

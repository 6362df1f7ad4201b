// Which sequences of a step a rank computes.
#pragma once

#include <vector>

#include "rwkvx/data/batches.h"

namespace rwkvx {

// A rank's share of the batches of a step: the sequences of all, one after the other, are cut into
// as many stretches of about as many tokens as there are ranks. A sequence is whole. Where the
// batches of equal sequences can be dealt out whole, they are.
std::vector<TokenBatch> share_of(const std::vector<TokenBatch>& batches, int rank, int ranks);

}  // namespace rwkvx

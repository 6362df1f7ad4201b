// The rows of a model's tables that an adapter's tensors belong to.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "rwkvx/adapters/adapter.h"
#include "rwkvx/cores/parameters.h"
#include "rwkvx/cores/state.h"

namespace rwkvx {

using ParameterRows = std::unordered_map<std::string, ParameterRow>;
ParameterRows parameter_rows(const ModelConfig& config);
// The matrix of a pair "blocks.0.att.key"; null where there is none.
const ParameterRow* matrix_of(const ParameterRows& rows, const std::string& stem);

// Throws CheckpointError where a tensor of a state is none of these rows, or some block lacks one.
void check_state_rows(const Adapter& adapter, const std::vector<StateRow>& rows,
                      const std::string& where);

}  // namespace rwkvx

// The parameters, state, cost and settings of the shift at one site, as a core's tables take them
// up.
#pragma once

#include <string>
#include <vector>

#include "rwkvx/cores/core.h"

namespace rwkvx {

inline constexpr std::string_view kShiftPart = "positional shift and gate";

// Adds the site's parameters, "att.shift.conv" for `site` "att.shift.".
void add_shift_rows(const ModelConfig& config, const std::string& site,
                    std::vector<ParameterRow>& rows);
// Its ring, called NAME.
StateRow shift_ring_row(const ModelConfig& config, std::string name);
// Where a site's tensors are among a block's state: prev (C), what the shift gave for the token
// before, and the ring (H, C), -1 without shift.
struct SitePlaces {
  int prev = -1, ring = -1;
};
// What a core's mixes multiply: the token itself, or the one before.
enum class MixShares { kToken, kBefore };
// The operations of one site.
CostRow shift_cost(const ModelConfig& config);
// Position features per token: 4 (exp), 8 (sin) or 0.
std::int64_t shift_features(const ShiftConfig& shift);
// Sets config.shift by the sites of block 0 that have tensors: `first` and `second` are the
// prefixes "blocks.0.att.shift." and "blocks.0.ffn.shift.".
void infer_shift(const TensorFile& file, const std::string& first, const std::string& second,
                 ModelConfig& config);

// Size `index` of a tensor of `rank` dimensions. Throws CheckpointError where it has others.
std::int64_t tensor_dimension(const TensorFile& file, const std::string& name, std::size_t index,
                              std::size_t rank);

}  // namespace rwkvx

// A look into a trained model: its gates on a text, its kernels by position, how long it remembers.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "rwkvx/text/tokenizer.h"

namespace rwkvx {

class RwkvImpl;

// {"tokens": ["Once", …],
//  "sites": [{"site": "blocks.0.att", "gate": [mean over channels, per token],
//             "share": [what the shift adds beside its input, per token]}],
//  "kernels": [{"site", "positions": [0, …], "taps": [[root mean square over channels of
//               m_j(t) conv[j], per lag j], per position]}],
//  "half_lives": [{"layer", "tokens": {"least", "10 %", "50 %", "90 %", "most"}}],
//  "in_context_rates": [{"layer", "rates": {the same}}]}
// A model without the shift has no sites and no kernels, one without a gate has gates of 1. The
// half-life of a channel is the number of tokens after which the memory of one has halved, by the
// decay that a token has before its own content changes it; the rate of RWKV-7 likewise. Cores
// without such numbers have none. Throws DataError where the text has no token.
nlohmann::ordered_json inspect_model(RwkvImpl& model, const Tokenizer& tokenizer,
                                     std::string_view text);

// The same as one HTML page that needs nothing else: the text colored by its gates, maps of gates
// and kernels, a table of half-lives. `title` names the model.
std::string inspection_page(const nlohmann::ordered_json& inspection, const std::string& title);

}  // namespace rwkvx

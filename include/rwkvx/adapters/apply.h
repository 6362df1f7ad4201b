// A model with adapters: what reads a ModelSource needs to know nothing of them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "rwkvx/adapters/adapter.h"
#include "rwkvx/checkpoint/model_source.h"
#include "rwkvx/cores/state.h"

namespace rwkvx {

// Adapters as a command line names them.
struct AdapterChoice {
  std::vector<std::string> files;    // FILE or FILE:SCALE, in the order in which they are applied
  std::optional<double> alpha{};     // of LoRA files that hold none
  bool any_base = false;             // also those of other weights, where all sizes fit
  std::string option = "--adapter";  // what names them, for messages
};

struct AdapterUse {
  std::filesystem::path path;
  double scale = 1;  // of what a LoRA adds
};
// "FILE:0.5"; a colon that no number follows belongs to the name, as one of a file that is there.
// Throws ConfigError for a scale that is not finite.
AdapterUse parse_adapter_use(const std::string& text, const std::string& option);

struct AdaptedModel {
  // Merged matrices are float32, in memory that an Engine may take over: open the model again for a
  // second use.
  ModelSource source;
  std::optional<PlainState> initial_state;  // that texts begin with; nothing: as usual
};

// The model with the adapters applied in order, each as written in adapter.h with float64 sums,
// rounded once. LoRA changes weights, a shift adds them and the settings, a state is that of a
// text's beginning. source.hash() is another one with every adapter, and the document's
// "provenance" names them. Throws CheckpointError for an adapter of another base (unless any_base)
// or one that does not fit, for weights that are quantized and two states; ConfigError for a scale
// of what has none and an alpha that no file needs; FileError.
AdaptedModel with_adapters(ModelSource base, const AdapterChoice& choice);

// The same for convert, quantize and inspect, which have no place for an initial state: throws
// ConfigError for one.
ModelSource merged_model(ModelSource base, const AdapterChoice& choice);

// weight (M, N) += scale b a, with a (r, N) and b (M, r): float64 sums, rounded once.
void add_lora(const AdapterTensor& a, const AdapterTensor& b, double scale, AdapterTensor& weight);

// The state that a text begins with under an adapter of kind state. Throws CheckpointError where
// the rows are those of another model.
PlainState initial_state(const Adapter& adapter, const std::vector<StateRow>& rows,
                         const std::string& where);

}  // namespace rwkvx

// The files of RWKV-PEFT (https://github.com/JL-er/RWKV-PEFT).
#pragma once

#include <optional>

#include "rwkvx/adapters/adapter.h"
#include "rwkvx/formats/tensor_file.h"

namespace rwkvx {

// Whether the tensors are a LoRA or a tuned state of RWKV-PEFT, and no model beside them.
bool is_peft(const TensorFile& file);
Adapter read_peft(const TensorFile& file, std::optional<double> alpha);

}  // namespace rwkvx

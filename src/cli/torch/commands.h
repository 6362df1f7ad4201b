// The part of the program that needs LibTorch; see cli/torch_part.h.
#pragma once

#include "cli/torch_part.h"

namespace rwkvx {

const TorchPart& torch_part();

}  // namespace rwkvx

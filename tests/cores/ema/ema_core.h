// A core that keeps an exponential moving average: the smallest one that has all that a core may
// have but fused training. It proves that a core is one folder, and is an example of one.
//   n_t = layer norm x_t,  e_t = d e_{t-1} + (1 - d) V n_t,  x_t += O e_t,  d = sigmoid(decay)
#pragma once

#include "rwkvx/cores/core.h"
#include "rwkvx/modules/core_modules.h"

namespace rwkvx::test {

extern const Core kEma;
extern const CoreModules kEmaModules;

}  // namespace rwkvx::test

// The function of librwkvx_torch.so that the program calls; see cli/torch_part.h.
#include "cli/program.h"
#include "cli/torch/commands.h"

extern "C" __attribute__((visibility("default"))) int rwkvx_torch_program(int argc, char** argv) {
  return rwkvx::run_program(argc, argv, &rwkvx::torch_part());
}

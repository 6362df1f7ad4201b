// The whole program with the core of moving averages in its table.
#include "cli/program.h"

#include "cli/torch/commands.h"
#include "cores/ema/ema_core.h"

int main(int argc, char** argv) {
  rwkvx::register_core(rwkvx::test::kEma);
  rwkvx::register_modules(rwkvx::test::kEmaModules);
  return rwkvx::run_program(argc, argv, &rwkvx::torch_part());
}

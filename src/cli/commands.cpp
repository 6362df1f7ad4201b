#include "cli/commands.h"

namespace rwkvx {

void add_commands(CLI::App& app) { (void)app; }

}  // namespace rwkvx

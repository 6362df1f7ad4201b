// The subcommands. Each function adds one to the program and sets what runs when it is chosen.
#pragma once

namespace CLI {
class App;
}

namespace rwkvx {

void add_commands(CLI::App& app);

}  // namespace rwkvx

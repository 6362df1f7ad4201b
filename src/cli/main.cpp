#include "cli/program.h"

int main(int argc, char** argv) { return rwkvx::run_program(argc, argv); }

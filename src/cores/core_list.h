// Every core, by the name of its folder and namespace. The table of cores (core.cpp) and that of
// their modules (modules/core_modules.cpp) are made of it: explicit lists, as linkers drop objects
// of static libraries that only register themselves.
#pragma once

#define RWKVX_CORES(core) core(rwkv4) core(rwkv7)

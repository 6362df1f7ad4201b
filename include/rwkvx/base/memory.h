// What this process takes of the machine's memory.
#pragma once

namespace rwkvx {

// The largest and the present resident size of this process in bytes; 0 where the system does not
// say. The largest is since the program started: what called it does not count.
double peak_memory_bytes();
double resident_memory_bytes();

}  // namespace rwkvx

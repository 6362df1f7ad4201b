// SIGINT and SIGTERM as a flag that long jobs look at between steps.
#pragma once

namespace rwkvx {

// While one lives, SIGINT and SIGTERM set a flag instead of ending the process; a second signal of
// the same kind ends it at once.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
};

// The signal that came since the first guard was made, 0 for none.
int interrupt_signal();
inline bool interrupted() { return interrupt_signal() != 0; }
// Forgets a signal that was dealt with.
void clear_interrupt();
// Ends the process by the signal that came, so that a calling shell sees it (status 128 + signal);
// returns where none came.
void end_if_interrupted();

}  // namespace rwkvx

// SIGINT, SIGTERM and SIGHUP as a flag that long jobs look at between pieces of work.
#pragma once

#include <string>

#include "rwkvx/base/error.h"

namespace rwkvx {

// While one lives, these signals set a flag instead of ending the process; a second signal of the
// same kind ends it at once. One that was ignored when the process began (nohup, a shell's
// background job) stays ignored. Guards may be nested: the outermost counts. SIGPIPE is ignored for
// good, so that writing to a closed pipe is an error of the write.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
};

// The signal that came since the outermost guard was made, 0 for none.
int interrupt_signal();
inline bool interrupted() { return interrupt_signal() != 0; }
// Behaves as if this signal had come: for a closed pipe, which ends a job like a signal.
void interrupt_by(int signal);
// Forgets a signal that was dealt with.
void clear_interrupt();
// Ends the process by the signal that came, so that a calling shell sees it (status 128 + signal);
// returns where none came.
void end_if_interrupted();

// Work that was given up because of a signal. The program says so and ends by that signal.
class Interrupted : public Error {
 public:
  Interrupted(const std::string& where, const std::string& reason) : Error(where, reason) {}
  int exit_status() const noexcept override { return 128 + interrupt_signal(); }
};

// Throws Interrupted at `where` if a signal came; for work of which no part is kept.
void throw_if_interrupted(const std::string& where);

}  // namespace rwkvx

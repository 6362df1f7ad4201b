#include "rwkvx/base/interrupt.h"

#include <csignal>

namespace rwkvx {
namespace {

volatile std::sig_atomic_t pending = 0;
struct sigaction before_int, before_term;

void note_signal(int signal) {
  if (pending == signal) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  pending = signal;
}

}  // namespace

InterruptGuard::InterruptGuard() {
  pending = 0;
  struct sigaction action {};
  action.sa_handler = note_signal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &before_int);
  sigaction(SIGTERM, &action, &before_term);
}

InterruptGuard::~InterruptGuard() {
  sigaction(SIGINT, &before_int, nullptr);
  sigaction(SIGTERM, &before_term, nullptr);
}

int interrupt_signal() { return pending; }
void clear_interrupt() { pending = 0; }

void end_if_interrupted() {
  if (pending == 0) return;
  std::signal(pending, SIG_DFL);
  std::raise(pending);
}

}  // namespace rwkvx

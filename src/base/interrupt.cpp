#include "rwkvx/base/interrupt.h"

#include <array>
#include <atomic>
#include <csignal>

namespace rwkvx {
namespace {

constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP};
volatile std::sig_atomic_t pending = 0;
std::array<struct sigaction, kSignals.size()> before;
std::atomic<int> guards{0};

void note_signal(int signal) {
  if (pending == signal) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  pending = signal;
}

}  // namespace

InterruptGuard::InterruptGuard() {
  if (guards++ > 0) return;
  pending = 0;
  std::signal(SIGPIPE, SIG_IGN);
  struct sigaction action {};
  action.sa_handler = note_signal;
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i], nullptr, &before[i]);
    if (before[i].sa_handler != SIG_IGN) sigaction(kSignals[i], &action, nullptr);
  }
}

InterruptGuard::~InterruptGuard() {
  if (--guards > 0) return;
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before[i], nullptr);
}

int interrupt_signal() { return pending; }
void interrupt_by(int signal) { pending = signal; }
void clear_interrupt() { pending = 0; }

void end_if_interrupted() {
  if (pending == 0) return;
  std::signal(pending, SIG_DFL);
  std::raise(pending);
}

void throw_if_interrupted(const std::string& where) {
  if (interrupted()) throw Interrupted(where, "interrupted");
}

}  // namespace rwkvx

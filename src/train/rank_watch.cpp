#include "train/rank_watch.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "rwkvx/base/error.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/progress.h"

namespace rwkvx {
namespace {

// Messages: a kind, four bytes of length (lowest first), text.
constexpr char kHello = 'h', kAlive = 'a', kPrepared = 'p', kSignal = 's', kFailed = 'f',
               kEnding = 'e', kLeft = 'l';
constexpr std::size_t kHeader = 5, kMostText = 4096;

// Shares of the timeout: a rank that says nothing for so long is gone; how long the training has to
// notice by itself; and when the process ends in any case.
constexpr double kSilence = 0.75, kNotice = 0.05, kMostNotice = 0.2;

std::string own_name() {
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  return "process " + std::to_string(::getpid()) + " on " + host;
}

double seconds_between(std::chrono::steady_clock::time_point from,
                       std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

void set_up(int socket) {
  const int on = 1;
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::fcntl(socket, F_SETFL, ::fcntl(socket, F_GETFL) | O_NONBLOCK);
}

std::string random_key() {
  std::uint64_t numbers[2] = {};
  if (::getrandom(numbers, sizeof numbers, 0) != sizeof numbers)
    throw Error("rank 0", "cannot get random numbers");
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(numbers[0]),
                static_cast<unsigned long long>(numbers[1]));
  return text;
}

}  // namespace

RankWatch::RankWatch(int size, double timeout)
    : size_(size), key_(random_key()), timeout_(timeout) {
  listener_ = ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_storage address{};
  socklen_t length = sizeof(sockaddr_in6);
  if (listener_ >= 0) {
    const int off = 0;  // IPv4 too
    ::setsockopt(listener_, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    reinterpret_cast<sockaddr_in6&>(address).sin6_family = AF_INET6;
  } else {  // a machine without IPv6
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    reinterpret_cast<sockaddr_in&>(address).sin_family = AF_INET;
    length = sizeof(sockaddr_in);
  }
  auto* place = reinterpret_cast<sockaddr*>(&address);
  if (listener_ < 0 || ::bind(listener_, place, length) != 0 || ::listen(listener_, size) != 0 ||
      ::getsockname(listener_, place, &length) != 0)
    throw Error("rank 0",
                std::string("cannot listen for the other ranks: ") + std::strerror(errno));
  port_ = ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                              : reinterpret_cast<sockaddr_in&>(address).sin_port);
  ::fcntl(listener_, F_SETFL, ::fcntl(listener_, F_GETFL) | O_NONBLOCK);
  begin();
}

RankWatch::RankWatch(int rank, int size, double timeout, const std::string& address, int port,
                     const std::string& key)
    : rank_(rank), size_(size), port_(port), key_(key), timeout_(timeout) {
  const auto where = "rank 0 at " + address + ":" + std::to_string(port);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int status =
          ::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found);
      status != 0)
    throw Error(where, std::string("cannot be found: ") + ::gai_strerror(status));
  int socket = -1;
  for (const auto* one = found; one != nullptr && socket < 0; one = one->ai_next) {
    socket = ::socket(one->ai_family, one->ai_socktype | SOCK_CLOEXEC, one->ai_protocol);
    if (socket < 0) continue;
    const timeval limit{static_cast<time_t>(std::max(1.0, timeout)), 0};
    ::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);  // of connect(), too
    if (::connect(socket, one->ai_addr, one->ai_addrlen) == 0) break;
    ::close(socket);
    socket = -1;
  }
  ::freeaddrinfo(found);
  if (socket < 0) throw Error(where, std::string("cannot be reached: ") + std::strerror(errno));
  set_up(socket);
  Peer peer;
  peer.socket = socket;
  peer.rank = 0;
  peer.heard = Clock::now();
  send_to(peer, kHello, key_ + " " + std::to_string(rank_) + " " + own_name());
  peers_.push_back(std::move(peer));
  begin();
}

void RankWatch::begin() {
  interval_ = std::clamp(timeout_ / 20, 0.02, 1.0);
  wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  last_round_ = Clock::now();
  thread_ = std::thread([this] { run(); });
}

RankWatch::~RankWatch() {
  stop_ = true;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_, &one, sizeof one);
  thread_.join();
  for (const auto& peer : peers_)
    if (peer.socket >= 0) ::close(peer.socket);
  if (listener_ >= 0) ::close(listener_);
  ::close(wake_);
}

void RankWatch::run() {
  auto next_beat = Clock::now();
  while (!stop_) {
    std::vector<pollfd> wanted = {{wake_, POLLIN, 0}};
    {
      const std::lock_guard lock(mutex_);
      if (listener_ >= 0) wanted.push_back({listener_, POLLIN, 0});
      for (const auto& peer : peers_)
        if (peer.socket >= 0) wanted.push_back({peer.socket, POLLIN, 0});
    }
    ::poll(wanted.data(), wanted.size(), static_cast<int>(interval_ * 500) + 1);
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    accept_one();
    // A process that was stopped itself has heard nothing meanwhile, which is nobody's fault.
    const bool was_stopped = seconds_between(last_round_, now) > 4 * interval_;
    last_round_ = now;
    for (auto& peer : peers_) {
      if (was_stopped) peer.heard = now;
      if (peer.socket >= 0) read_from(peer);
      if (peer.socket >= 0 && !peer.left && !left_ &&
          seconds_between(peer.heard, now) > kSilence * timeout_) {
        char how[64];
        std::snprintf(how, sizeof how, "has not answered for %.3g s", kSilence * timeout_);
        lost(peer, how);
      }
    }
    std::erase_if(peers_, [](const Peer& peer) { return peer.socket < 0 && peer.rank < 0; });
    if (now >= next_beat) {
      send_all(kAlive);
      next_beat = now + std::chrono::duration_cast<Clock::duration>(
                            std::chrono::duration<double>(interval_));
    }
    end_if_overdue();
  }
}

void RankWatch::accept_one() {
  if (listener_ < 0) return;
  for (int socket; (socket = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
    set_up(socket);
    Peer peer;
    peer.socket = socket;
    peer.heard = Clock::now();
    peers_.push_back(std::move(peer));
  }
}

void RankWatch::read_from(Peer& peer) {
  char bytes[4096];
  for (;;) {
    const auto count = ::recv(peer.socket, bytes, sizeof bytes, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (count <= 0) return lost(peer, "ended");
    peer.heard = Clock::now();
    peer.unread.append(bytes, static_cast<std::size_t>(count));
    while (peer.socket >= 0 && take_message(peer)) {
    }
    if (peer.socket < 0) return;
  }
}

bool RankWatch::take_message(Peer& peer) {
  if (peer.unread.size() < kHeader) return false;
  std::size_t length = 0;
  for (std::size_t i = 0; i < 4; ++i)
    length |= static_cast<std::size_t>(static_cast<unsigned char>(peer.unread[1 + i])) << (8 * i);
  if (length > kMostText) {
    lost(peer, "sent what is no message");
    return false;
  }
  if (peer.unread.size() < kHeader + length) return false;
  const char kind = peer.unread[0];
  const auto text = peer.unread.substr(kHeader, length);
  peer.unread.erase(0, kHeader + length);
  take(peer, kind, text);
  return true;
}

void RankWatch::take(Peer& peer, char kind, const std::string& text) {
  if (peer.rank < 0) {
    // KEY RANK NAME, or a stranger.
    int rank = 0, read = 0;
    const bool known = kind == kHello && text.starts_with(key_ + " ") &&
                       std::sscanf(text.c_str() + key_.size(), "%d %n", &rank, &read) == 1 &&
                       rank > 0 && rank < size_;
    if (!known) {
      ::close(peer.socket);
      peer.socket = -1;
      return;
    }
    peer.rank = rank;
    peer.name = text.substr(std::min(key_.size() + static_cast<std::size_t>(read), text.size()));
    send_to(peer, kHello, own_name());
    changed_.notify_all();
    return;
  }
  if (kind == kHello && rank_ != 0) peer.name = text;
  if (kind == kPrepared) prepared_ = true;
  if (kind == kSignal && !interrupted()) interrupt_by(std::atoi(text.c_str()));
  if (kind == kFailed)
    set_cause(text.starts_with("rank ") ? text : "rank " + std::to_string(peer.rank) + ": " + text,
              &peer);
  if (kind == kEnding) {
    if (cause_.empty()) cause_since_ = Clock::now(), cause_ = text;
    shown_elsewhere_ = true;
    changed_.notify_all();
  }
  if (kind == kLeft) peer.left = true;
}

void RankWatch::lost(Peer& peer, const std::string& how) {
  ::close(peer.socket);
  peer.socket = -1;
  if (peer.rank < 0 || peer.left || left_) return;
  set_cause("rank " + std::to_string(peer.rank) +
                (peer.name.empty() ? "" : " (" + peer.name + ")") + " " + how +
                ", so the training ends",
            &peer);
}

// `from`: needs no message.
void RankWatch::set_cause(const std::string& text, const Peer* from) {
  if (!cause_.empty()) {
    if (rank_ == 0 && from->socket >= 0)
      for (auto& peer : peers_)
        if (&peer == from) send_to(peer, kEnding, cause_);
    return;
  }
  cause_ = text;
  cause_since_ = Clock::now();
  if (rank_ == 0) send_all(kEnding, text);
  changed_.notify_all();
}

void RankWatch::send_to(Peer& peer, char kind, const std::string& text) {
  if (peer.socket < 0) return;
  const auto length = std::min(text.size(), kMostText);
  std::string message(1, kind);
  for (int i = 0; i < 4; ++i) message += static_cast<char>(length >> (8 * i) & 0xff);
  message.append(text, 0, length);
  // Where there is no room, the other end has not read for long, and is found silent.
  [[maybe_unused]] const auto sent =
      ::send(peer.socket, message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void RankWatch::send_all(char kind, const std::string& text) {
  for (auto& peer : peers_)
    if (peer.rank >= 0) send_to(peer, kind, text);
}

// Ends the process where the training has not noticed what happened.
void RankWatch::end_if_overdue() {
  if (ending_since_ && seconds_between(*ending_since_, Clock::now()) > kMostNotice * timeout_)
    ::_exit(1);
  if (cause_.empty() || left_) return;
  const double since = seconds_between(cause_since_, Clock::now()) / timeout_;
  if (since < kNotice || (!waiting_ && since < kMostNotice)) return;
  if (rank_ == 0 || !shown_elsewhere_) {
    clear_progress_line();
    std::fprintf(stderr, "rwkvx: error: %s\n", cause_.c_str());
    std::fflush(stderr);
  }
  ::_exit(1);
}

std::string RankWatch::absent() {
  const std::lock_guard lock(mutex_);
  std::string text;
  for (int rank = 1; rank < size_; ++rank)
    if (std::ranges::none_of(peers_, [&](const Peer& peer) { return peer.rank == rank; }))
      text += (text.empty() ? "rank " : ", rank ") + std::to_string(rank);
  return text;
}

std::string RankWatch::cause() {
  const std::lock_guard lock(mutex_);
  return cause_;
}

std::string RankWatch::wait_for_cause() {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::duration<double>(std::min(3.0, kNotice * timeout_)),
                    [&] { return !cause_.empty(); });
  return cause_;
}

void RankWatch::tell_prepared() {
  const std::lock_guard lock(mutex_);
  prepared_ = true;
  send_all(kPrepared);
}

void RankWatch::tell_signal(int signal) {
  const std::lock_guard lock(mutex_);
  send_all(kSignal, std::to_string(signal));
}

bool RankWatch::tell_failure(const std::string& text) {
  std::unique_lock lock(mutex_);
  ending_since_ = Clock::now();
  if (rank_ == 0) {
    if (cause_.empty()) send_all(kEnding, "rank 0: " + text);
    left_ = true;
    return false;
  }
  if (!shown_elsewhere_) send_all(kFailed, text);
  changed_.wait_for(lock, std::chrono::duration<double>(std::min(3.0, kNotice * timeout_)),
                    [&] { return shown_elsewhere_; });
  left_ = true;
  return shown_elsewhere_;
}

void RankWatch::leave() {
  const std::lock_guard lock(mutex_);
  left_ = true;
  send_all(kLeft);
}

}  // namespace rwkvx

// Notices when another process of a training ends or stops answering.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace rwkvx {

// Every rank has a connection to rank 0, over which both say several times a second that they live.
// Rank 0 passes on what happened to one. A thread of its own listens: where the training does not
// notice in time, as it waits for a rank that is gone, that thread ends the process with a line
// that names the rank.
class RankWatch {
 public:
  // Rank 0 listens. `timeout`: seconds in which all that follows from a rank's end or silence is
  // over.
  RankWatch(int size, double timeout);
  // Another one connects to it, with the `port` and the `key` that rank 0's has. Throws Error.
  RankWatch(int rank, int size, double timeout, const std::string& address, int port,
            const std::string& key);
  ~RankWatch();
  RankWatch(const RankWatch&) = delete;
  RankWatch& operator=(const RankWatch&) = delete;

  int port() const { return port_; }
  const std::string& key() const { return key_; }
  // Of rank 0: "rank 2, rank 3" that have not come yet.
  std::string absent();
  // What happened to another rank first, "rank 2 (process 4711 on box) ended"; "" while all is
  // well.
  std::string cause();
  // The same, after waiting a moment for it.
  std::string wait_for_cause();
  // Rank 0 tells the others that it has prepared what all need.
  void tell_prepared();
  bool prepared() const { return prepared_; }
  // Tells rank 0 that a signal came here, which then behaves as if it had come there.
  void tell_signal(int signal);
  // Tells the others why this rank ends. Whether rank 0 shows it, so that this one need not. As
  // long as the watch lives, it sees to it that the process then ends.
  bool tell_failure(const std::string& text);
  // This rank needs the others no more.
  void leave();

  // While one lives, the training waits for other ranks, and so notices nothing itself.
  class Waiting {
   public:
    explicit Waiting(RankWatch& watch) : watch_(watch) { watch_.waiting_ = true; }
    ~Waiting() { watch_.waiting_ = false; }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

   private:
    RankWatch& watch_;
  };

 private:
  using Clock = std::chrono::steady_clock;
  // The other end of a connection.
  struct Peer {
    int socket = -1;
    int rank = -1;  // -1: has not said it yet
    std::string name, unread;
    Clock::time_point heard;
    bool left = false;
  };
  void begin();
  void run();
  void accept_one();
  void read_from(Peer& peer);
  bool take_message(Peer& peer);
  void take(Peer& peer, char kind, const std::string& text);
  void lost(Peer& peer, const std::string& how);
  void set_cause(const std::string& text, const Peer* from);
  static void send_to(Peer& peer, char kind, const std::string& text = "");
  void send_all(char kind, const std::string& text = "");
  void end_if_overdue();

  int rank_ = 0, size_ = 1, port_ = 0, listener_ = -1, wake_ = -1;
  std::string key_;
  double timeout_, interval_;
  std::mutex mutex_;  // of all that follows but the atomics
  std::condition_variable changed_;
  std::vector<Peer> peers_;
  std::string cause_;
  Clock::time_point cause_since_, last_round_;
  std::optional<Clock::time_point> ending_since_;
  bool shown_elsewhere_ = false;  // rank 0 shows what happened
  std::atomic<bool> prepared_{false}, waiting_{false}, left_{false}, stop_{false};
  std::thread thread_;
};

}  // namespace rwkvx

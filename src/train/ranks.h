// The processes that train one model together, and what they do with one another's numbers.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/launch.h"

namespace rwkvx {

// Another rank ended, or does not answer. `text` names it.
class RankError : public Error {
 public:
  explicit RankError(const std::string& text) : Error("", text) {}
};

// All ranks call the same functions of these in the same order, with the same sizes; each returns
// where all have come. They throw RankError where one does not within the timeout. A process that
// trains alone has none of this.
class Ranks {
 public:
  // Whether this program can; false without Gloo's headers (no_ranks.cpp).
  static bool built();
  // Meets the others. `timeout`: seconds that a rank may take to come, or to answer later on.
  static std::unique_ptr<Ranks> join(const RankPlace& place, double timeout);
  ~Ranks();
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  int rank() const;
  int size() const;

  // Where the values of this rank's model lie, "cpu" unless told, "cuda:1": the memory that
  // begin_sum(), share_ranges(), broadcast_values(), send() and receive() are given. On GPUs they
  // go through NCCL where the program was built with it, else through this machine's memory.
  void set_device(const std::string& device);

  // Replaces the numbers by their sums over the ranks, the same bits on all. Begins at once and
  // goes on beside other work, up to finish_sums().
  void begin_sum(float* values, std::int64_t count);
  void finish_sums();
  // Rank 0's bytes come to all.
  void broadcast_values(void* bytes, std::int64_t count);
  // How long another rank may take: the timeout, or as long as its process lives.
  enum class Wait { kTimeout, kPatient };
  // The numbers of every rank, in the order of the ranks.
  std::vector<std::vector<double>> gather(const std::vector<double>& own,
                                          Wait wait = Wait::kTimeout);
  // `bytes` of this machine's memory.
  void broadcast(void* bytes, std::int64_t count, int from, Wait wait = Wait::kTimeout);
  std::string broadcast_text(const std::string& text, int from, Wait wait = Wait::kTimeout);
  // `ranges[r]` of `bytes`, which rank r has, comes to all.
  struct Range {
    std::int64_t begin = 0, count = 0;
  };
  void share_ranges(void* bytes, const std::vector<Range>& ranges);
  // From one rank to another; both call it.
  void send(const void* bytes, std::int64_t count, int to);
  void receive(void* bytes, std::int64_t count, int from);

  // Rank 0 says that the tokenizer and the data are there; the others wait for it. Throws
  // Interrupted where a signal comes meanwhile, and tells rank 0.
  void tell_prepared();
  void wait_prepared();
  // Tells the others why this rank ends. Whether rank 0 shows it, so that this one need not.
  bool tell_failure(const std::string& text);
  // After the last call of the above on every rank.
  void leave();

 private:
  struct Impl;
  explicit Ranks(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace rwkvx

// In place of ranks.cpp, where a program is built without Gloo's headers: a process trains alone.
#include <cstdlib>

#include "train/ranks.h"

namespace rwkvx {

struct Ranks::Impl {};

bool Ranks::built() { return false; }

std::unique_ptr<Ranks> Ranks::join(const RankPlace& place, double) {
  throw ConfigError(place.launcher,
                    "started " + std::to_string(place.size) +
                        " processes, but this program was built without Gloo's headers and trains "
                        "with one alone; install libgloo-dev and build again");
}

// There is none, so nothing of it is called.
Ranks::~Ranks() = default;
int Ranks::rank() const { std::abort(); }
int Ranks::size() const { std::abort(); }
void Ranks::set_device(const std::string&) { std::abort(); }
void Ranks::begin_sum(float*, std::int64_t) { std::abort(); }
void Ranks::finish_sums() { std::abort(); }
void Ranks::broadcast_values(void*, std::int64_t) { std::abort(); }
std::vector<std::vector<double>> Ranks::gather(const std::vector<double>&, Wait) { std::abort(); }
void Ranks::broadcast(void*, std::int64_t, int, Wait) { std::abort(); }
std::string Ranks::broadcast_text(const std::string&, int, Wait) { std::abort(); }
void Ranks::share_ranges(void*, const std::vector<Range>&) { std::abort(); }
void Ranks::send(const void*, std::int64_t, int) { std::abort(); }
void Ranks::receive(void*, std::int64_t, int) { std::abort(); }
void Ranks::tell_prepared() { std::abort(); }
void Ranks::wait_prepared() { std::abort(); }
bool Ranks::tell_failure(const std::string&) { std::abort(); }
void Ranks::leave() { std::abort(); }

}  // namespace rwkvx

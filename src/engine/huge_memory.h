// Memory that is fast to read through.
#pragma once

#include <cstddef>

namespace rwkvx {

// Zeroed memory in the system's largest pages, where it has them. A page of 4 KiB is read in 100
// ns: finding its address takes a good part of that.
class HugeMemory {
 public:
  explicit HugeMemory(std::size_t bytes);
  ~HugeMemory();
  HugeMemory(const HugeMemory&) = delete;
  HugeMemory& operator=(const HugeMemory&) = delete;
  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace rwkvx

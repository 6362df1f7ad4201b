#include "engine/huge_memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

namespace rwkvx {
namespace {

constexpr std::size_t kHugePage = 2 << 20;

std::size_t rounded_up(std::size_t bytes) {
  return (bytes + kHugePage - 1) / kHugePage * kHugePage;
}

}  // namespace

HugeMemory::HugeMemory(std::size_t bytes) : bytes_(rounded_up(bytes)) {
  void* found = ::mmap(nullptr, bytes_ + kHugePage, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (found == MAP_FAILED) throw std::bad_alloc();
  // Only the part from a multiple of a large page on is kept.
  auto* begin = static_cast<std::byte*>(found);
  const auto skipped =
      rounded_up(reinterpret_cast<std::uintptr_t>(begin)) - reinterpret_cast<std::uintptr_t>(begin);
  if (skipped > 0) ::munmap(begin, skipped);
  if (skipped < kHugePage) ::munmap(begin + skipped + bytes_, kHugePage - skipped);
  data_ = begin + skipped;
  ::madvise(data_, bytes_, MADV_HUGEPAGE);  // best effort
}
HugeMemory::~HugeMemory() { ::munmap(data_, bytes_); }

}  // namespace rwkvx

// Files mapped into memory, and what becomes of those that others cut while they are read: the
// kernel sends SIGBUS for a page behind the new end. Such pages are replaced by zeros, so that
// whoever reads goes on to the next place where it asks check_mapped_files().
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"

namespace rwkvx {

// A mapping that the signal handler knows. Nodes are used again but never freed, so that the
// handler can walk them at any moment.
struct MappedFile::Node {
  std::atomic<std::uintptr_t> begin{0};  // 0: free
  std::atomic<std::size_t> size{0};
  std::atomic<bool> shrunk{false};
  std::string name;  // under the mutex
  Node* next = nullptr;
};

namespace {

std::atomic<MappedFile::Node*> first_node{nullptr};
std::atomic<bool> any_shrunk{false};
struct sigaction action_before;

std::mutex& mutex() {
  static std::mutex one;
  return one;
}
// The file that became shorter, once it is closed.
std::string& shrunk_name() {
  static std::string name;
  return name;
}

void on_bus_error(int, siginfo_t* info, void*) {
  const int error = errno;
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  for (auto* node = first_node.load(); node != nullptr; node = node->next) {
    const auto begin = node->begin.load();
    const auto end = (begin + node->size.load() + page - 1) / page * page;
    if (begin == 0 || address < begin || address >= end) continue;
    const auto from = address / page * page;
    if (::mmap(reinterpret_cast<void*>(from), end - from, PROT_READ,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
      break;
    node->shrunk = true;
    any_shrunk = true;
    errno = error;
    return;
  }
  // Nothing of ours: the instruction is tried again, and whoever was there before gets the signal.
  ::sigaction(SIGBUS, &action_before, nullptr);
  errno = error;
}

MappedFile::Node* take_node(std::uintptr_t begin, std::size_t size, const std::string& name) {
  const std::lock_guard lock(mutex());
  static const bool handled = [] {
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    return ::sigaction(SIGBUS, &action, &action_before) == 0;
  }();
  static_cast<void>(handled);
  auto* node = first_node.load();
  while (node != nullptr && node->begin != 0) node = node->next;
  const bool made = node == nullptr;
  if (made) node = new MappedFile::Node;
  node->shrunk = false;
  node->name = name;
  node->size = size;
  node->begin = begin;
  if (made) {
    node->next = first_node.load();
    first_node = node;
  }
  return node;
}

[[noreturn]] void refuse(const std::string& name) {
  throw FileError(name,
                  "became shorter while it was read, or its disk failed; the result is not of the "
                  "whole file: run the command again when nobody writes to it");
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const auto fail = [&](const char* what) {
    throw FileError(path.string(), what + std::string(": ") + std::strerror(errno));
  };
  file_ = Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file_) fail("cannot open");
  struct stat status {};
  if (::fstat(file_.get(), &status) != 0) fail("cannot read");
  if (S_ISDIR(status.st_mode)) throw FileError(path.string(), "is a directory, expected a file");
  size_ = S_ISREG(status.st_mode) ? static_cast<std::size_t>(status.st_size) : 0;
  if (size_ == 0) return;
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file_.get(), 0);
  if (address == MAP_FAILED) fail("cannot map into memory");
  data_ = static_cast<const std::byte*>(address);
  node_ = take_node(reinterpret_cast<std::uintptr_t>(address), size_, path_.string());
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) {
    const bool shorter = is_shorter();
    const std::lock_guard lock(mutex());
    if (shorter) {
      if (shrunk_name().empty()) shrunk_name() = node_->name;
      any_shrunk = true;
    }
    node_->begin = 0;
    ::munmap(const_cast<std::byte*>(data_), size_);
  }
}

bool MappedFile::is_shorter() const {
  if (node_ == nullptr) return false;
  if (node_->shrunk) return true;
  // Within the last page there is no signal, the bytes are zeros at once.
  struct stat status {};
  return ::fstat(file_.get(), &status) == 0 && static_cast<std::size_t>(status.st_size) < size_;
}

void MappedFile::check() const {
  if (is_shorter()) refuse(path_.string());
}

void MappedFile::drop(std::uint64_t first, std::uint64_t count) const {
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t begin = (first + page - 1) / page * page;
  const std::uint64_t end = std::min<std::uint64_t>(first + count, size_) / page * page;
  if (data_ == nullptr || begin >= end) return;
  ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

void check_mapped_files() {
  if (!any_shrunk) return;
  std::string name;
  {
    const std::lock_guard lock(mutex());
    name = std::exchange(shrunk_name(), "");
    for (auto* node = first_node.load(); name.empty() && node != nullptr; node = node->next)
      if (node->begin != 0 && node->shrunk) name = node->name;
    any_shrunk = false;
  }
  refuse(name);
}

}  // namespace rwkvx

#include "rwkvx/base/lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <climits>
#include <cstring>
#include <ctime>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/log.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostCommand = 120;  // characters of the owner's command line
constexpr std::size_t kMostOwner = 400;    // and of all that is said about it

std::string this_process() {
  char host[HOST_NAME_MAX + 1] = "", when[32] = "";
  ::gethostname(host, sizeof host - 1);
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  std::strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &local);
  std::string command;
  try {
    command = read_file("/proc/self/cmdline");
  } catch (const FileError&) {
  }
  for (char& c : command)
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  while (command.ends_with(' ')) command.pop_back();
  if (command.size() > kMostCommand) command = command.substr(0, kMostCommand) + "…";
  return "process " + std::to_string(::getpid()) + " on " + host + " since " + when +
         (command.empty() ? "" : " (" + command + ")");
}

// What the owner wrote about itself, which anybody could have written.
std::string owner_in(int descriptor) {
  char text[kMostOwner];
  // The owner writes its line right after it took the lock.
  for (int tries = 0; tries < 20; ++tries) {
    const auto got = ::pread(descriptor, text, sizeof text, 0);
    std::string owner(text, got > 0 ? static_cast<std::size_t>(got) : 0);
    if (const auto end = owner.find('\n'); end != std::string::npos) {
      owner.resize(end);
      for (char& c : owner)
        if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = '?';
      if (!owner.empty()) return owner;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return "another process";
}

bool is_named(int descriptor, const fs::path& path) {
  struct stat opened {
  }, named{};
  return ::fstat(descriptor, &opened) == 0 && ::stat(path.c_str(), &named) == 0 &&
         opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
}

}  // namespace

int lock_descriptor(int descriptor, int operation) {
  int taken;
  while ((taken = ::flock(descriptor, operation)) != 0 && errno == EINTR) {
  }
  return taken;
}

fs::path link_target(fs::path path) {
  constexpr int kMostLinks = 40;
  std::error_code error;
  for (int links = 0; links < kMostLinks && fs::is_symlink(path, error); ++links) {
    const auto next = fs::read_symlink(path, error);
    if (error) break;
    path = next.is_absolute() ? next : path.parent_path() / next;
  }
  return path;
}

FileLock FileLock::of_directory(const fs::path& directory) {
  return {directory, directory / ".lock"};
}

FileLock FileLock::of_file(const fs::path& file) {
  return {file, link_target(file).string() + ".lock"};
}

FileLock FileLock::wait_for_directory(const fs::path& directory) {
  return {directory, directory / ".lock", /*wait=*/true};
}

FileLock::FileLock(const fs::path& owned, fs::path lock_file, bool wait)
    : lock_file_(std::move(lock_file)) {
  for (bool said = false;;) {
    file_ = Descriptor(::open(lock_file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666));
    if (!file_)
      throw FileError(owned.string(),
                      "cannot be written: " + lock_file_.string() + ": " + std::strerror(errno));
    const int taken = lock_descriptor(file_.get(), LOCK_EX | LOCK_NB);
    if (taken != 0 && errno == EWOULDBLOCK) {
      const auto owner = owner_in(file_.get());
      file_.close();
      if (wait) {
        throw_if_interrupted(owned.string());
        if (!std::exchange(said, true))
          log_info(owned.string() + " is in use by " + owner + "; waiting");
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        continue;
      }
      throw FileError(owned.string(),
                      "is in use by " + owner + "; wait until it ends or choose another name");
    }
    // An owner that gives the lock up removes the file first: then this is not the file any more.
    if (is_named(file_.get(), lock_file_)) break;
  }
  const auto text = this_process() + "\n";
  if (::ftruncate(file_.get(), 0) != 0 ||
      ::pwrite(file_.get(), text.data(), text.size(), 0) < static_cast<ssize_t>(text.size())) {
    // A full disk: the lock holds all the same, only its owner has no name.
  }
}

bool directory_in_use(const fs::path& directory) {
  const auto path = directory / ".lock";
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  return file && lock_descriptor(file.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

MadeDirectories::MadeDirectories(const fs::path& directory) {
  std::vector<fs::path> missing;
  std::error_code error;
  for (auto path = directory.lexically_normal(); !path.empty() && !fs::exists(path, error);
       path = path.parent_path())
    missing.push_back(path);
  for (auto path = missing.rbegin(); path != missing.rend(); ++path) {
    // "a/" is a, and another process may make it meanwhile.
    if (!path->has_filename()) continue;
    if (::mkdir(path->c_str(), 0777) == 0) {
      made_.push_back(*path);
    } else if (errno != EEXIST) {
      const std::string reason = std::strerror(errno);
      remove_empty();
      throw FileError(directory.string(), "cannot make the directory: " + reason);
    }
  }
  if (!directory.empty() && !fs::is_directory(directory, error)) {
    remove_empty();
    throw FileError(directory.string(), "is not a directory");
  }
}

MadeDirectories::~MadeDirectories() { remove_empty(); }

void MadeDirectories::remove_empty() const {
  for (auto path = made_.rbegin(); path != made_.rend() && ::rmdir(path->c_str()) == 0; ++path) {
  }
}

FileLock::~FileLock() {
  // Removed while it is held.
  if (file_ && is_named(file_.get(), lock_file_)) ::unlink(lock_file_.c_str());
}

FileLock::FileLock(FileLock&& other) noexcept = default;

FileLock& FileLock::operator=(FileLock&& other) noexcept {
  std::swap(lock_file_, other.lock_file_);
  std::swap(file_, other.file_);
  return *this;
}

}  // namespace rwkvx

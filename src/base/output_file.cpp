#include "rwkvx/base/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>
#include <stdexcept>
#include <system_error>

#include "rwkvx/base/error.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBufferBytes = 1 << 20;
// Between a file's name and the random part of a temporary one's; nobody else uses such names.
constexpr std::string_view kMark = ".rwkvx-", kEnding = ".tmp";
constexpr std::size_t kRandom = 8;

std::string random_part() {
  static constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz0123456789";
  std::random_device random;
  std::string text;
  for (std::size_t i = 0; i < kRandom; ++i) text += kLetters[random() % kLetters.size()];
  return text;
}

// Whether a name is that of a temporary file: of the file `name`, or of any where that is empty.
bool is_temporary(const std::string& file, std::string_view name) {
  const auto tail = kMark.size() + kRandom + kEnding.size();
  if (file.size() <= tail || !file.ends_with(kEnding)) return false;
  const auto begin = file.size() - tail;
  return std::string_view(file).substr(begin, kMark.size()) == kMark &&
         (name.empty() || std::string_view(file).substr(0, begin) == name);
}

fs::path directory_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

[[noreturn]] void fail_on(const fs::path& path, const std::string& what) {
  throw FileError(path.string(), what + ": " + std::strerror(errno));
}

// Writes all bytes at the file's position; false with errno set where that fails.
bool write_all(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

}  // namespace

void remove_leftovers(const fs::path& directory, std::string_view name) {
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    if (!is_temporary(it->path().filename().string(), name)) continue;
    const Descriptor file(::open(it->path().c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (file && lock_descriptor(file.get(), LOCK_EX | LOCK_NB) == 0)
      ::unlink(it->path().c_str());  // its writer is gone
  }
}

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)), target_(link_target(path_)) {
  struct stat status {};
  const bool exists = ::stat(target_.c_str(), &status) == 0;
  if (exists && S_ISDIR(status.st_mode))
    throw FileError(path_.string(), "is a directory, expected a file");
  if (exists && !S_ISREG(status.st_mode)) {
    file_ = Descriptor(::open(target_.c_str(), O_WRONLY | O_CLOEXEC));
    if (!file_) fail("cannot open");
    return;
  }
  remove_leftovers(directory_of(target_), target_.filename().string());
  for (;;) {
    temporary_ = target_.string();
    temporary_ += std::string(kMark) + random_part() + std::string(kEnding);
    file_ = Descriptor(::open(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (!file_ && errno == EEXIST) continue;
    if (!file_) fail("cannot create");
    // Another writer may have taken it for a leftover before it was locked. Where the file system
    // has no locks, nothing is ever taken for one.
    lock_descriptor(file_.get(), LOCK_EX);
    struct stat own {};
    if (::fstat(file_.get(), &own) == 0 && own.st_nlink > 0) break;
  }
  // Best effort: a file system may not know permissions.
  if (exists && ::fchmod(file_.get(), status.st_mode & 07777) != 0) errno = 0;
}

AtomicFile::~AtomicFile() {
  if (file_ && !temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::fail(const std::string& what) const { fail_on(path_, what); }

void AtomicFile::write(std::string_view bytes) {
  size_ += bytes.size();
  buffer_ += bytes;
  if (buffer_.size() >= kBufferBytes) flush();
}

void AtomicFile::write_at(std::uint64_t offset, std::string_view bytes) {
  if (temporary_.empty())
    throw FileError(path_.string(), "is not a regular file, which this output needs");
  flush();
  while (!bytes.empty()) {
    const ssize_t written =
        ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("cannot write");
    bytes.remove_prefix(static_cast<std::size_t>(written));
    offset += static_cast<std::uint64_t>(written);
  }
}

void AtomicFile::flush() {
  if (!write_all(file_.get(), buffer_)) fail("cannot write");
  buffer_.clear();
}

void AtomicFile::commit() {
  flush();
  if (temporary_.empty()) {
    if (file_.close() != 0) fail("cannot write");
    return;
  }
  if (::fsync(file_.get()) != 0) fail("cannot flush to disk");
  if (::rename(temporary_.c_str(), target_.c_str()) != 0)
    fail("cannot rename the finished file to this name");
  // The lock is held until the name is the final one.
  if (file_.close() != 0) fail("cannot close");
  sync_directory(target_.parent_path());
}

void write_file(const fs::path& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

AppendFile::AppendFile(fs::path path) : path_(std::move(path)) {
  struct stat status {};
  const bool exists = ::stat(path_.c_str(), &status) == 0;
  if (exists && S_ISDIR(status.st_mode))
    throw FileError(path_.string(), "is a directory, expected a file");
  regular_ = !exists || S_ISREG(status.st_mode);
  if (!regular_) {
    open(O_WRONLY);
    return;
  }
  lock_.emplace(FileLock::of_file(path_));
  if (!exists) {
    check_writable(path_);
    return;
  }
  open(O_RDWR);
  // The end of the last whole line.
  const off_t total = ::lseek(file_.get(), 0, SEEK_END);
  if (total < 0) fail(errno);
  char block[4096];
  for (off_t end = total; end > 0 && size_ == 0;) {
    const off_t begin = std::max<off_t>(0, end - static_cast<off_t>(sizeof block));
    const auto got = ::pread(file_.get(), block, static_cast<std::size_t>(end - begin), begin);
    if (got != end - begin) fail(got < 0 ? errno : EIO);
    for (auto i = got; i > 0; --i)
      if (block[i - 1] == '\n') {
        size_ = begin + i;
        break;
      }
    end = begin;
  }
  unfinished_ = total - size_;
}

void AppendFile::open(int flags) {
  file_ = Descriptor(::open(path_.c_str(), flags | O_CLOEXEC, 0666));
  if (!file_) fail(errno);
}

void AppendFile::fail(int error) const {
  throw FileError(path_.string(), std::string("cannot be written: ") + std::strerror(error));
}

void AppendFile::cut() {
  if (unfinished_ > 0 && ::ftruncate(file_.get(), size_) != 0) fail(errno);
  unfinished_ = 0;
}

void AppendFile::clear() {
  if (regular_ && file_ && ::ftruncate(file_.get(), 0) != 0) fail(errno);
  size_ = unfinished_ = 0;
}

void AppendFile::append(std::string_view line) {
  if (unfinished_ > 0) throw std::logic_error("AppendFile: append() before cut() or clear()");
  if (!file_) open(O_RDWR | O_CREAT);
  if (!regular_) {
    if (!write_all(file_.get(), line)) fail(errno);
    return;
  }
  std::size_t done = 0;
  while (done < line.size()) {
    const auto wrote = ::pwrite(file_.get(), line.data() + done, line.size() - done,
                                size_ + static_cast<off_t>(done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      const int error = wrote == 0 ? ENOSPC : errno;
      if (::ftruncate(file_.get(), size_) != 0) fail(errno);
      fail(error);
    }
    done += static_cast<std::size_t>(wrote);
  }
  size_ += static_cast<std::int64_t>(line.size());
}

bool same_file(const fs::path& a, const fs::path& b) {
  struct stat first {
  }, second{};
  return ::stat(a.c_str(), &first) == 0 && ::stat(b.c_str(), &second) == 0 &&
         first.st_ino == second.st_ino && first.st_dev == second.st_dev;
}

void refuse_same_file(const std::string& output_option, const fs::path& output,
                      std::initializer_list<std::pair<std::string, fs::path>> inputs) {
  struct stat status {};
  if (output.empty() || (::stat(output.c_str(), &status) == 0 && !S_ISREG(status.st_mode))) return;
  for (const auto& [option, input] : inputs)
    if (!input.empty() && same_file(output, input))
      throw ConfigError(output_option, output.string() + " is the same file as " + option + " " +
                                           input.string() + "; choose another output");
}

void check_writable(const fs::path& path) {
  const auto target = link_target(path);
  struct stat status {};
  const bool exists = ::stat(target.c_str(), &status) == 0;
  if (exists && S_ISDIR(status.st_mode))
    throw FileError(path.string(), "is a directory, expected a file");
  // A new file replaces a regular one, so that the directory must be writable.
  const bool straight = exists && !S_ISREG(status.st_mode);
  if (::access(straight ? target.c_str() : directory_of(target).c_str(),
               straight ? W_OK : W_OK | X_OK) != 0)
    fail_on(path, "cannot be written");
}

void sync_directory(const fs::path& directory) {
  const fs::path name = directory.empty() ? fs::path(".") : directory;
  const Descriptor file(::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!file) fail_on(name, "cannot open the directory");
  // Some file systems do not support fsync on directories; there is nothing better to do there.
  if (::fsync(file.get()) != 0 && errno != EINVAL) fail_on(name, "cannot flush the directory");
}

}  // namespace rwkvx

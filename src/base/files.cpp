#include "rwkvx/base/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "rwkvx/base/error.h"

namespace rwkvx {
namespace {

constexpr std::size_t kBufferBytes = 1 << 20;

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& what) {
  const int code = errno;
  throw FileError(path.string(), what + ": " + std::strerror(code));
}

int open_for_reading(const std::filesystem::path& path, std::uint64_t& size) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail(path, "cannot open");
  struct stat status {};
  if (::fstat(descriptor, &status) != 0 || S_ISDIR(status.st_mode)) {
    const bool directory = S_ISDIR(status.st_mode);
    ::close(descriptor);
    if (directory) throw FileError(path.string(), "is a directory, wanted a file");
    fail(path, "cannot read");
  }
  size = S_ISREG(status.st_mode) ? static_cast<std::uint64_t>(status.st_size) : 0;
  return descriptor;
}

// Calls use(piece) for successive pieces until the end; works for pipes too.
template <class Use>
void read_pieces(const std::filesystem::path& path, int descriptor, const Use& use) {
  std::vector<char> piece(kBufferBytes);
  for (;;) {
    const ssize_t got = ::read(descriptor, piece.data(), piece.size());
    if (got == 0) return;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(path, "cannot read");
    use(std::string_view(piece.data(), static_cast<std::size_t>(got)));
  }
}

struct Descriptor {
  int value;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
};

}  // namespace

std::string read_file(const std::filesystem::path& path) {
  std::uint64_t size = 0;
  const Descriptor file{open_for_reading(path, size)};
  std::string content;
  content.reserve(size);
  read_pieces(path, file.value, [&](std::string_view piece) { content += piece; });
  return content;
}

AtomicFile::AtomicFile(std::filesystem::path path)
    : path_(std::move(path)), temporary_(path_.string() + ".tmp") {
  descriptor_ = ::open(temporary_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail(temporary_, "cannot create");
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::string_view bytes) {
  size_ += bytes.size();
  buffer_ += bytes;
  if (buffer_.size() >= kBufferBytes) flush();
}

void AtomicFile::write_at(std::uint64_t offset, std::string_view bytes) {
  flush();
  while (!bytes.empty()) {
    const ssize_t written =
        ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(temporary_, "cannot write");
    bytes.remove_prefix(static_cast<std::size_t>(written));
    offset += static_cast<std::uint64_t>(written);
  }
}

void AtomicFile::flush() {
  std::string_view rest = buffer_;
  while (!rest.empty()) {
    const ssize_t written = ::write(descriptor_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(temporary_, "cannot write");
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  buffer_.clear();
}

void AtomicFile::commit() {
  flush();
  if (::fsync(descriptor_) != 0) fail(temporary_, "cannot flush to disk");
  const int closing = descriptor_;
  descriptor_ = -1;
  if (::close(closing) != 0) {
    ::unlink(temporary_.c_str());
    fail(temporary_, "cannot close");
  }
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int code = errno;
    ::unlink(temporary_.c_str());
    errno = code;
    fail(path_, "cannot rename the finished file to this name");
  }
  sync_directory(path_.parent_path());
}

AppendFile::AppendFile(std::filesystem::path path, bool empty) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | (empty ? O_TRUNC : 0), 0666);
  if (descriptor_ < 0) fail(errno);
  // The end of the last whole line.
  char block[4096];
  for (off_t end = ::lseek(descriptor_, 0, SEEK_END); end > 0 && size_ == 0;) {
    const off_t begin = std::max<off_t>(0, end - static_cast<off_t>(sizeof block));
    const auto got = ::pread(descriptor_, block, static_cast<std::size_t>(end - begin), begin);
    if (got <= 0) break;
    for (auto i = got; i > 0; --i)
      if (block[i - 1] == '\n') {
        size_ = begin + i;
        break;
      }
    end = begin;
  }
  if (::ftruncate(descriptor_, size_) != 0 && errno != EINVAL) fail(errno);
}

AppendFile::~AppendFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void AppendFile::fail(int error) const {
  throw FileError(path_.string(), std::string("cannot be written: ") + std::strerror(error));
}

void AppendFile::append(std::string_view line) {
  std::size_t done = 0;
  while (done < line.size()) {
    const auto wrote = ::pwrite(descriptor_, line.data() + done, line.size() - done,
                                size_ + static_cast<off_t>(done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      const int error = wrote == 0 ? ENOSPC : errno;
      if (::ftruncate(descriptor_, size_) != 0) fail(errno);
      fail(error);
    }
    done += static_cast<std::size_t>(wrote);
  }
  size_ += static_cast<std::int64_t>(line.size());
}

void write_file(const std::filesystem::path& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

void sync_directory(const std::filesystem::path& directory) {
  const std::filesystem::path name = directory.empty() ? std::filesystem::path(".") : directory;
  const Descriptor folder{::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (folder.value < 0) fail(name, "cannot open the directory");
  // Some file systems do not support fsync on directories; there is nothing better to do there.
  if (::fsync(folder.value) != 0 && errno != EINVAL) fail(name, "cannot flush the directory");
}

MappedFile::MappedFile(const std::filesystem::path& path) {
  std::uint64_t size = 0;
  const Descriptor file{open_for_reading(path, size)};
  size_ = static_cast<std::size_t>(size);
  if (size_ == 0) return;
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.value, 0);
  if (address == MAP_FAILED) fail(path, "cannot map into memory");
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::drop(std::uint64_t first, std::uint64_t count) const {
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t begin = (first + page - 1) / page * page;
  const std::uint64_t end = std::min<std::uint64_t>(first + count, size_) / page * page;
  if (data_ == nullptr || begin >= end) return;
  ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "rwkvx-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr)
    fail(name, "cannot make a temporary folder here (TMPDIR names another place)");
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

struct Hasher::Impl {
  XXH3_state_t* state = XXH3_createState();
  ~Impl() { XXH3_freeState(state); }
};

Hasher::Hasher() : impl_(std::make_unique<Impl>()) {
  if (impl_->state == nullptr) throw std::bad_alloc();
  XXH3_128bits_reset(impl_->state);
}
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

void Hasher::add(std::string_view bytes) {
  XXH3_128bits_update(impl_->state, bytes.data(), bytes.size());
}

std::string Hasher::hex() const {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(impl_->state));
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : canonical.digest) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::string hash_bytes(std::string_view bytes) {
  Hasher hasher;
  hasher.add(bytes);
  return hasher.hex();
}

std::string hash_file(const std::filesystem::path& path) {
  std::uint64_t size = 0;
  const Descriptor file{open_for_reading(path, size)};
  Hasher hasher;
  read_pieces(path, file.value, [&](std::string_view piece) { hasher.add(piece); });
  return hasher.hex();
}

}  // namespace rwkvx

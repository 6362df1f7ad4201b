#include "rwkvx/base/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/interrupt.h"

namespace rwkvx {
namespace {

constexpr std::size_t kBufferBytes = 1 << 20;

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& what) {
  const int code = errno;
  throw FileError(path.string(), what + ": " + std::strerror(code));
}

Descriptor open_for_reading(const std::filesystem::path& path, std::uint64_t& size) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) fail(path, "cannot open");
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail(path, "cannot read");
  if (S_ISDIR(status.st_mode)) throw FileError(path.string(), "is a directory, expected a file");
  size = S_ISREG(status.st_mode) ? static_cast<std::uint64_t>(status.st_size) : 0;
  return file;
}

// Calls use(piece) for successive pieces until the end; works for pipes too.
template <class Use>
void read_pieces(const std::filesystem::path& path, const Descriptor& file, const Use& use) {
  std::vector<char> piece(kBufferBytes);
  for (;;) {
    const ssize_t got = ::read(file.get(), piece.data(), piece.size());
    if (got == 0) return;
    if (got < 0 && errno == EINTR) {
      throw_if_interrupted(path.string());
      continue;
    }
    if (got < 0) fail(path, "cannot read");
    use(std::string_view(piece.data(), static_cast<std::size_t>(got)));
  }
}

}  // namespace

std::string read_file(const std::filesystem::path& path) {
  std::uint64_t size = 0;
  const auto file = open_for_reading(path, size);
  std::string content;
  content.reserve(size);
  read_pieces(path, file, [&](std::string_view piece) { content += piece; });
  return content;
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "rwkvx-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr)
    fail(name, "cannot create a temporary directory here; set TMPDIR to another one");
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
  const auto file = open_for_reading(path, size);
  Hasher hasher;
  read_pieces(path, file, [&](std::string_view piece) { hasher.add(piece); });
  return hasher.hex();
}

}  // namespace rwkvx

#include "rwkvx/base/input.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/progress.h"
#include "spool.h"

namespace rwkvx {
namespace {

constexpr std::size_t kPieceBytes = 1 << 20;
// A copy of this size takes long enough, and room enough, to be mentioned.
constexpr std::uint64_t kMentionedBytes = 64 << 20;

void copy_all(int from, const Descriptor& to, const std::string& name) {
  std::vector<char> piece(kPieceBytes);
  std::uint64_t total = 0;
  bool mentioned = false;
  for (;;) {
    throw_if_interrupted(name);
    const ssize_t got = ::read(from, piece.data(), piece.size());
    if (got == 0) return;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw FileError(name, std::string("cannot read: ") + std::strerror(errno));
    write_spool(to, {piece.data(), static_cast<std::size_t>(got)}, name);
    total += static_cast<std::uint64_t>(got);
    if (total >= kMentionedBytes && !std::exchange(mentioned, true))
      log_info("copying " + name + " to a temporary file, as it is read more than once");
  }
}

}  // namespace

Descriptor make_spool() {
  std::error_code error;
  auto directory = std::filesystem::temp_directory_path(error);
  if (error) directory = "/tmp";
  std::string name = (directory / "rwkvx-XXXXXX").string();
  Descriptor spool(::mkostemp(name.data(), O_CLOEXEC));
  if (!spool)
    throw FileError(directory.string(), std::string("cannot make a temporary file here: ") +
                                            std::strerror(errno) +
                                            " (TMPDIR names another directory)");
  ::unlink(name.c_str());
  return spool;
}

void write_spool(const Descriptor& spool, std::string_view bytes, const std::string& name) {
  while (!bytes.empty()) {
    const auto wrote = ::write(spool.get(), bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0)
      throw FileError(name, std::string("cannot be copied to a temporary file: ") +
                                std::strerror(errno) + " (TMPDIR names another directory)");
    bytes.remove_prefix(static_cast<std::size_t>(wrote));
  }
}

std::string spool_path(const Descriptor& spool) {
  return "/proc/self/fd/" + std::to_string(spool.get());
}

Input::Input(const std::string& name) : name_(name == "-" ? "standard input" : name), path_(name) {
  const bool standard = name == "-";
  struct stat status {};
  // What cannot be opened is reported by whoever reads it, like any other file.
  if (!standard &&
      (::stat(name.c_str(), &status) != 0 || S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)))
    return;
  if (standard && ::isatty(STDIN_FILENO) != 0)
    log_info("reading from the terminal, end it with Ctrl-D");
  const Descriptor opened(standard ? -1 : ::open(name.c_str(), O_RDONLY | O_CLOEXEC));
  if (!standard && !opened)
    throw FileError(name_, std::string("cannot open: ") + std::strerror(errno));
  spool_ = make_spool();
  copy_all(standard ? STDIN_FILENO : opened.get(), spool_, name_);
  path_ = spool_path(spool_);
}

}  // namespace rwkvx

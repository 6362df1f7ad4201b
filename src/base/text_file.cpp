#include "rwkvx/base/text_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <mutex>
#include <vector>

#include "npy_lines.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/file_kind.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/json_line.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/progress.h"
#include "spool.h"

namespace rwkvx {
namespace {

constexpr std::size_t kPieceBytes = 1 << 18;
constexpr std::size_t kLookedAt = 1 << 16;           // bytes that are searched for NUL
constexpr std::size_t kLongestFirstLine = 16 << 20;  // of a file that may hold JSON lines
constexpr std::uint64_t kMentionedBytes = 64 << 20;
constexpr int kMaxWindowLog = 27;  // of zstd, as its own program allows: 128 MiB of memory
constexpr std::size_t kKept = 64;  // decompressed files
constexpr const char* kExpected =
    "expected text: .txt or .jsonl, plain or compressed as .gz or .zst, or integers as .npy";

// Reads a file piece by piece.
class Pieces {
 public:
  Pieces(const std::string& path, const std::string& name)
      : name_(name), piece_(kPieceBytes), file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (!file_) throw FileError(name, std::string("cannot open: ") + std::strerror(errno));
  }
  // Empty at the end.
  std::string_view next() {
    for (;;) {
      throw_if_interrupted(name_);
      const auto got = ::read(file_.get(), piece_.data(), piece_.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) throw FileError(name_, std::string("cannot read: ") + std::strerror(errno));
      return {piece_.data(), static_cast<std::size_t>(got)};
    }
  }

 private:
  const std::string& name_;
  std::vector<char> piece_;
  Descriptor file_;
};

class Output {
 public:
  Output(const Descriptor& spool, const std::string& name, const char* what = "decompressing")
      : spool_(spool), name_(name), what_(what) {}
  void write(std::string_view bytes) {
    throw_if_interrupted(name_);
    write_spool(spool_, bytes, name_);
    const auto before = total_;
    total_ += bytes.size();
    if (before < kMentionedBytes && total_ >= kMentionedBytes)
      log_info(what_ + (" " + name_) + " into a temporary file, as it is read more than once");
  }

 private:
  const Descriptor& spool_;
  const std::string& name_;
  const char* what_;
  std::uint64_t total_ = 0;
};

[[noreturn]] void refuse_cut(const std::string& name, const char* kind) {
  throw DataError(name, std::string("is ") + kind + " that is cut off: its end is missing");
}

void decompress_gzip(const std::string& path, const std::string& name, const Descriptor& spool) {
  Pieces pieces(path, name);
  Output output(spool, name);
  z_stream stream{};
  if (inflateInit2(&stream, 15 + 16) != Z_OK) throw std::bad_alloc();  // a gzip header is wanted
  const auto end = std::shared_ptr<z_stream>(&stream, [](z_stream* one) { inflateEnd(one); });
  std::vector<char> out(kPieceBytes);
  bool inside = false;  // a member; several may follow each other
  // Decompresses as much as there is room for; false where nothing came.
  const auto step = [&] {
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    const int result = inflate(&stream, Z_NO_FLUSH);
    output.write({out.data(), out.size() - stream.avail_out});
    if (result == Z_BUF_ERROR) return false;
    if (result == Z_MEM_ERROR) throw std::bad_alloc();
    if (result != Z_OK && result != Z_STREAM_END)
      throw DataError(name, std::string("is a damaged gzip file") +
                                (stream.msg != nullptr ? ": " + std::string(stream.msg) : ""));
    if (result == Z_STREAM_END) {
      inside = false;
      inflateReset(&stream);
    }
    return true;
  };
  for (auto piece = pieces.next(); !piece.empty(); piece = pieces.next()) {
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(piece.data()));
    stream.avail_in = static_cast<uInt>(piece.size());
    while (stream.avail_in > 0) {
      if (!inside && *stream.next_in == 0) {  // padding between members, as on tapes
        ++stream.next_in;
        --stream.avail_in;
        continue;
      }
      inside = true;
      step();
    }
    // What is left in the state comes with the next piece, or now.
    while (inside && stream.avail_out == 0 && step()) {
    }
  }
  if (inside) refuse_cut(name, kGzipKind);
}

void decompress_zstd(const std::string& path, const std::string& name, const Descriptor& spool) {
  Pieces pieces(path, name);
  Output output(spool, name);
  const std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> stream(ZSTD_createDStream(),
                                                                             ZSTD_freeDStream);
  if (stream == nullptr) throw std::bad_alloc();
  ZSTD_DCtx_setParameter(stream.get(), ZSTD_d_windowLogMax, kMaxWindowLog);
  std::vector<char> out(kPieceBytes);
  std::size_t wanted = 0;  // 0 at the end of a frame
  for (auto piece = pieces.next(); !piece.empty(); piece = pieces.next()) {
    ZSTD_inBuffer in{piece.data(), piece.size(), 0};
    bool full = true;
    while (in.pos < in.size || full) {
      ZSTD_outBuffer to{out.data(), out.size(), 0};
      if (in.pos == in.size && wanted == 0) break;
      wanted = ZSTD_decompressStream(stream.get(), &to, &in);
      if (ZSTD_isError(wanted) != 0)
        throw DataError(name, std::string("is a damaged zstd file: ") + ZSTD_getErrorName(wanted));
      output.write({out.data(), to.pos});
      full = to.pos == to.size;
    }
  }
  if (wanted != 0) refuse_cut(name, kZstdKind);
}

std::string lower_extension(std::string_view name) {
  const auto slash = name.rfind('/');
  if (slash != std::string_view::npos) name.remove_prefix(slash + 1);
  const auto dot = name.rfind('.');
  if (dot == std::string_view::npos || dot == 0) return "";
  std::string out(name.substr(dot));
  std::transform(out.begin(), out.end(), out.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return out;
}

// Whether the first line that is not blank is a JSON object of its own.
bool begins_with_object(const std::string& path, const std::string& name) {
  Pieces pieces(path, name);
  std::string line;
  bool begun = false;
  for (auto piece = pieces.next(); !piece.empty(); piece = pieces.next()) {
    if (!begun && line.empty() && piece.starts_with(kByteOrderMark))
      piece.remove_prefix(kByteOrderMark.size());
    if (!begun) {
      piece.remove_prefix(std::min(piece.find_first_not_of(" \t\r\n"), piece.size()));
      if (piece.empty()) continue;
      if (piece.front() != '{') return false;
      begun = true;
    }
    const auto end = piece.find('\n');
    line += piece.substr(0, end);
    if (end != std::string_view::npos || line.size() > kLongestFirstLine) break;
  }
  return begun && is_json(line);
}

}  // namespace

TextFile::TextFile(const std::string& name) : input_(name), path_(input_.path()) {
  auto kind = file_kind(first_bytes(path_));
  auto bare = name;
  const auto packed = lower_extension(name);
  if (packed == ".gz" || packed == ".zst") bare.resize(bare.size() - packed.size());
  if (kind == kGzipKind || kind == kZstdKind) {
    spool_ = make_spool();
    (kind == kGzipKind ? decompress_gzip : decompress_zstd)(input_.path(), this->name(), spool_);
    path_ = spool_path(spool_);
    kind = file_kind(first_bytes(path_));
    if (!kind.empty()) kind = "compressed; in it is " + kind;
  } else if (kind == kNpyKind) {
    spool_ = make_spool();
    npy_to_lines(input_.path(), this->name(),
                 [&, output = Output(spool_, this->name(), "writing the numbers of")](
                     std::string_view lines) mutable { output.write(lines); });
    path_ = spool_path(spool_);
    json_lines_ = true;
    return;
  } else if (bare != name && kind.empty()) {
    kind = "no " + packed.substr(1) + " file, whatever its name says";
  }
  if (!kind.empty()) throw DataError(this->name(), "is " + kind + "; " + kExpected);
  look(bare);
}

void TextFile::look(const std::string& bare_name) {
  const auto beginning = first_bytes(path_, kLookedAt);
  marked_ = beginning.starts_with(kByteOrderMark);
  const auto ending = lower_extension(bare_name);
  json_lines_ = ending == ".jsonl" || ending == ".ndjson";
  if (ending == ".json" || ending.empty()) json_lines_ = begins_with_object(path_, name());
  const auto by_name = kind_by_name(bare_name);
  if (beginning.find('\0') != std::string::npos)
    problem_ = std::string("is binary (it holds NUL bytes); ") + kExpected;
  else if (!by_name.empty())
    problem_ = "is " + by_name + " by its name; " + kExpected;
  else if (ending == ".json" && !json_lines_ && !beginning.empty())
    problem_ =
        "is JSON, but not one object a line (JSON lines); jq -c '.[]' turns a list of objects into "
        "such lines";
}

std::shared_ptr<const TextFile> open_text(const std::string& name) {
  auto file = open_lines(name);
  if (!file->problem().empty()) throw DataError(file->name(), file->problem());
  return file;
}

std::shared_ptr<const TextFile> open_lines(const std::string& name) {
  struct Known {
    std::string name;
    struct stat status;
    bool regular;
    std::shared_ptr<const TextFile> file;
  };
  static std::mutex mutex;
  static std::deque<Known> known;
  struct stat status {};
  const bool there = name != "-" && ::stat(name.c_str(), &status) == 0;
  const bool regular = there && S_ISREG(status.st_mode);
  {
    const std::lock_guard lock(mutex);
    for (const auto& one : known) {
      if (one.name != name || one.regular != regular) continue;
      // A pipe can be read once, whatever becomes of its name.
      if (!regular || (one.status.st_ino == status.st_ino && one.status.st_dev == status.st_dev &&
                       one.status.st_size == status.st_size &&
                       one.status.st_mtim.tv_sec == status.st_mtim.tv_sec &&
                       one.status.st_mtim.tv_nsec == status.st_mtim.tv_nsec))
        return one.file;
    }
  }
  auto file = std::make_shared<const TextFile>(name);
  if (regular && !file->compressed()) return file;
  const std::lock_guard lock(mutex);
  if (regular) {
    std::erase_if(known, [&](const Known& one) { return one.name == name; });
    std::size_t files = 0;
    for (const auto& one : known) files += one.regular;
    if (files >= kKept)
      known.erase(
          std::find_if(known.begin(), known.end(), [](const Known& one) { return one.regular; }));
  }
  known.push_back({name, status, regular, file});
  return file;
}

}  // namespace rwkvx

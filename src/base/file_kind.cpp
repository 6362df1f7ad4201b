#include "rwkvx/base/file_kind.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <utility>

#include "rwkvx/base/descriptor.h"
#include "rwkvx/base/error.h"

namespace rwkvx {
namespace {

using Row = std::pair<std::string_view, const char*>;
using namespace std::string_view_literals;

constexpr std::array kMagic{
    Row{"\x1f\x8b"sv, kGzipKind},
    Row{"\x28\xb5\x2f\xfd"sv, kZstdKind},
    Row{"BZh"sv, "a bzip2 file"},
    Row{"\xfd\x37zXZ\0"sv, "an xz file"},
    Row{"\x04\x22\x4d\x18"sv, "an lz4 file"},
    Row{"PK\x03\x04"sv, "a zip archive"},
    Row{"PK\x05\x06"sv, "a zip archive"},
    Row{"7z\xbc\xaf\x27\x1c"sv, "a 7-zip archive"},
    Row{"Rar!\x1a\x07"sv, "a RAR archive"},
    Row{"PAR1"sv, "a Parquet file"},
    Row{"ARROW1"sv, "an Arrow file"},
    Row{"FEA1"sv, "a Feather file"},
    Row{"\x89PNG"sv, "a PNG picture"},
    Row{"\xff\xd8\xff"sv, "a JPEG picture"},
    Row{"GIF8"sv, "a GIF picture"},
    Row{"%PDF-"sv, "a PDF document"},
    Row{"\xd0\xcf\x11\xe0"sv, "an Office document"},
    Row{"\x7f"
        "ELF"sv,
        "a program (ELF)"},
    Row{"\x89HDF"sv, "an HDF5 file"},
    Row{"\x93NUMPY"sv, kNpyKind},
    Row{"SQLite format 3\0"sv, "an SQLite database"},
    Row{"GGUF"sv, "a GGUF model"},
    Row{"MMIDIDX\0\0"sv, "the index of a token file"},
    Row{"OggS"sv, "an Ogg file"},
    Row{"fLaC"sv, "a FLAC file"},
    Row{"ID3"sv, "an MP3 file"},
    Row{"\x80\x02"sv, "a Python pickle"},
    Row{"\x80\x03"sv, "a Python pickle"},
    Row{"\x80\x04"sv, "a Python pickle"},
    Row{"\x80\x05"sv, "a Python pickle"},
    Row{"version https://git-lfs"sv,
        "a Git LFS pointer, not the file itself (git lfs pull gets it)"},
    Row{"\xff\xfe"sv, "UTF-16 text (iconv -f UTF-16 -t UTF-8 makes it UTF-8)"},
    Row{"\xfe\xff"sv, "UTF-16 text (iconv -f UTF-16 -t UTF-8 makes it UTF-8)"},
};

constexpr std::array kEndings{
    Row{".parquet", "a Parquet file"},
    Row{".arrow", "an Arrow file"},
    Row{".feather", "a Feather file"},
    Row{".bin", "a file of numbers"},
    Row{".idx", "the index of a token file"},
    Row{".pt", "a PyTorch file"},
    Row{".pth", "a PyTorch file"},
    Row{".ckpt", "a checkpoint"},
    Row{".safetensors", "a file of weights"},
    Row{".gguf", "a GGUF model"},
    Row{".onnx", "an ONNX model"},
    Row{".pkl", "a Python pickle"},
    Row{".pickle", "a Python pickle"},
    Row{".npy", kNpyKind},
    Row{".npz", "a NumPy archive"},
    Row{".h5", "an HDF5 file"},
    Row{".hdf5", "an HDF5 file"},
    Row{".zip", "a zip archive"},
    Row{".tar", "a tar archive"},
    Row{".tgz", "a tar archive"},
    Row{".7z", "a 7-zip archive"},
    Row{".rar", "a RAR archive"},
    Row{".bz2", "a bzip2 file"},
    Row{".xz", "an xz file"},
    Row{".lz4", "an lz4 file"},
    Row{".png", "a picture"},
    Row{".jpg", "a picture"},
    Row{".jpeg", "a picture"},
    Row{".gif", "a picture"},
    Row{".webp", "a picture"},
    Row{".bmp", "a picture"},
    Row{".tif", "a picture"},
    Row{".tiff", "a picture"},
    Row{".mp3", "sound"},
    Row{".mp4", "a film"},
    Row{".wav", "sound"},
    Row{".ogg", "sound"},
    Row{".flac", "sound"},
    Row{".mkv", "a film"},
    Row{".webm", "a film"},
    Row{".pdf", "a PDF document"},
    Row{".doc", "an Office document"},
    Row{".docx", "an Office document"},
    Row{".xls", "an Office document"},
    Row{".xlsx", "an Office document"},
    Row{".ppt", "an Office document"},
    Row{".pptx", "an Office document"},
    Row{".odt", "an Office document"},
    Row{".epub", "an e-book"},
    Row{".sqlite", "an SQLite database"},
};

}  // namespace

std::string file_kind(std::string_view beginning) {
  // First: the length of a header of tensors may look like any other mark.
  if (beginning.size() > 8 && beginning[8] == '{' && beginning.substr(4, 4) == "\0\0\0\0"sv)
    return kSafetensorsKind;
  // A text may begin with the letters of a mark, but it holds no control characters.
  const bool binary = std::any_of(beginning.begin(), beginning.end(), [](unsigned char c) {
    return c < 0x20 && c != '\t' && c != '\n' && c != '\r' && c != '\f';
  });
  for (const auto& [magic, kind] : kMagic) {
    const bool letters = std::all_of(magic.begin(), magic.end(),
                                     [](unsigned char c) { return c >= 0x20 && c < 0x7f; });
    const bool telling = !letters || binary || magic.size() > 4;
    if (telling && beginning.starts_with(magic)) return kind;
  }
  if (binary && beginning.starts_with("RIFF") && beginning.size() >= 12)
    return beginning.substr(8, 4) == "WEBP" ? "a WebP picture" : "a RIFF file (sound or film)";
  if (beginning.size() > 262 && beginning.substr(257, 5) == "ustar") return "a tar archive";
  return "";
}

std::string kind_by_name(std::string_view name) {
  if (const auto slash = name.rfind('/'); slash != std::string_view::npos)
    name.remove_prefix(slash + 1);  // a hidden file ".bin" has no ending
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const auto& [ending, kind] : kEndings)
    if (lower.size() > ending.size() && lower.ends_with(ending)) return kind;
  return "";
}

std::string first_bytes(const std::string& path, std::size_t count) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) throw FileError(path, std::string("cannot open: ") + std::strerror(errno));
  std::string bytes(count, '\0');
  std::size_t done = 0;
  while (done < count) {
    const auto got = ::read(file.get(), bytes.data() + done, count - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EISDIR) throw FileError(path, "is a directory, expected a file");
    if (got < 0) throw FileError(path, std::string("cannot read: ") + std::strerror(errno));
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  bytes.resize(done);
  return bytes;
}

}  // namespace rwkvx

#include "npy_lines.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"

namespace rwkvx {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kPieceBytes = 1 << 18;

struct Header {
  char kind = 'i';  // i or u
  std::size_t width = 0;
  std::vector<std::uint64_t> shape;
  std::size_t begin = 0;  // where the numbers begin
};

[[noreturn]] void refuse(const std::string& name, const std::string& found) {
  throw DataError(name,
                  "expected a NumPy array of integers with one or two dimensions, got " + found);
}

// What stands after 'key': in the dictionary.
std::string_view value_of(std::string_view dictionary, std::string_view key,
                          const std::string& name) {
  const auto quoted = "'" + std::string(key) + "':";
  const auto at = dictionary.find(quoted);
  if (at == std::string_view::npos) refuse(name, "a header without '" + std::string(key) + "'");
  auto value = dictionary.substr(at + quoted.size());
  value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
  return value;
}

void read_type(std::string_view value, Header& header, const std::string& name) {
  const auto type = value.substr(0, std::min(value.find(','), value.size()));
  // '<i4': byte order, kind, bytes of a number.
  const bool quoted = type.size() == 5 && type[0] == '\'' && type[4] == '\'';
  const char order = quoted ? type[1] : ' ', kind = quoted ? type[2] : ' ';
  const int width = quoted ? type[3] - '0' : 0;
  const bool integers =
      (kind == 'i' || kind == 'u') && (width == 1 || width == 2 || width == 4 || width == 8);
  if (!integers || (order != '<' && order != '|'))
    refuse(name, "numbers of type " + std::string(type.substr(0, 40)) +
                     "; array.astype('<i4') makes them integers");
  header.kind = kind;
  header.width = static_cast<std::size_t>(width);
}

void read_shape(std::string_view value, Header& header, const std::string& name) {
  const auto end = value.find(')');
  if (!value.starts_with('(') || end == std::string_view::npos)
    refuse(name, "a header without a shape");
  auto rest = value.substr(1, end - 1);
  while (!rest.empty()) {
    rest.remove_prefix(std::min(rest.find_first_not_of(" ,"), rest.size()));
    if (rest.empty()) break;
    std::uint64_t size = 0;
    const auto [stop, error] = std::from_chars(rest.data(), rest.data() + rest.size(), size);
    if (error != std::errc()) refuse(name, "a shape of " + std::string(value.substr(0, 40)));
    header.shape.push_back(size);
    rest.remove_prefix(static_cast<std::size_t>(stop - rest.data()));
  }
  if (header.shape.empty() || header.shape.size() > 2)
    refuse(name, std::to_string(header.shape.size()) + " dimensions");
}

Header read_header(std::string_view bytes, const std::string& name) {
  if (bytes.size() < 12 || !bytes.starts_with(kMagic)) refuse(name, "a damaged header");
  const auto at = [&](std::size_t i) {
    return static_cast<std::size_t>(static_cast<unsigned char>(bytes[i]));
  };
  const auto version = at(6);
  if (version < 1 || version > 3) refuse(name, "NPY version " + std::to_string(version));
  const std::size_t length =
      version == 1 ? at(8) | at(9) << 8 : at(8) | at(9) << 8 | at(10) << 16 | at(11) << 24;
  const std::size_t prefix = version == 1 ? 10 : 12;
  if (length > bytes.size() - prefix) refuse(name, "a header that is cut off");
  const auto dictionary = bytes.substr(prefix, length);
  Header header;
  header.begin = prefix + length;
  read_type(value_of(dictionary, "descr", name), header, name);
  read_shape(value_of(dictionary, "shape", name), header, name);
  if (header.shape.size() == 2 && !value_of(dictionary, "fortran_order", name).starts_with("False"))
    refuse(name, "columns one after the other; numpy.ascontiguousarray(array) gives rows");
  // Each size is bounded by the file before they are multiplied.
  const std::uint64_t numbers = (bytes.size() - header.begin) / header.width;
  std::uint64_t wanted = 1;
  for (const auto size : header.shape) {
    if (size != 0 && wanted > numbers / size) wanted = numbers + 1;
    wanted = std::min(wanted * size, numbers + 1);
  }
  if (wanted * header.width != bytes.size() - header.begin)
    throw DataError(name, "is damaged: its header and its " + std::to_string(bytes.size()) +
                              " bytes do not fit");
  return header;
}

std::int64_t number_at(const char* bytes, const Header& header, const std::string& name) {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes, header.width);  // little-endian
  const int unused = 64 - 8 * static_cast<int>(header.width);
  if (header.kind == 'i') return static_cast<std::int64_t>(value << unused) >> unused;
  if (value > INT64_MAX)
    throw DataError(name, "holds " + std::to_string(value) + ", which is no id");
  return static_cast<std::int64_t>(value);
}

}  // namespace

void npy_to_lines(const std::string& path, const std::string& name,
                  const std::function<void(std::string_view)>& write) {
  const MappedFile file(path);
  const auto bytes = file.text();
  const Header header = read_header(bytes, name);
  const auto rows = header.shape.size() == 2 ? header.shape[0] : 1;
  const auto columns = header.shape.back();
  if (columns == 0) return;
  std::string piece;
  const char* place = bytes.data() + header.begin;
  for (std::uint64_t row = 0; row < rows; ++row) {
    for (std::uint64_t column = 0; column < columns; ++column, place += header.width) {
      char digits[24];
      const auto end =
          std::to_chars(digits, digits + sizeof digits, number_at(place, header, name)).ptr;
      piece += column == 0 ? '[' : ',';
      piece.append(digits, end);
      if (piece.size() > kPieceBytes) {
        file.check();
        write(piece);
        piece.clear();
      }
    }
    piece += "]\n";
  }
  file.check();
  write(piece);
}

}  // namespace rwkvx

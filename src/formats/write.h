// What the writers of tensor files share.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "rwkvx/base/output_file.h"

namespace rwkvx {

inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// In pieces, so that the file's buffer does not grow to the size of a tensor.
inline void write_pieces(AtomicFile& file, std::span<const std::byte> bytes) {
  constexpr std::size_t kPieceBytes = 1 << 20;
  for (auto rest = as_text(bytes); !rest.empty();) {
    const auto piece = rest.substr(0, kPieceBytes);
    file.write(piece);
    rest.remove_prefix(piece.size());
  }
}

// A number's little-endian bytes, at the end of `out`.
template <class Number>
void append_number(std::string& out, Number number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof number);
}

}  // namespace rwkvx

#include "rwkvx/formats/npy.h"

namespace rwkvx {

std::string npy_header(std::int64_t rows, std::int64_t columns) {
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" +
                       std::to_string(rows) + ", " + std::to_string(columns) + "), }";
  constexpr std::size_t kPrefix = 10, kMultiple = 64;  // magic, version and length; of the whole
  header.append(kMultiple - (kPrefix + header.size() + 1) % kMultiple, ' ');
  header += '\n';
  std::string prefix("\x93NUMPY\x01\x00", 8);
  prefix += static_cast<char>(header.size() & 0xFF);
  prefix += static_cast<char>(header.size() >> 8);
  return prefix + header;
}

}  // namespace rwkvx

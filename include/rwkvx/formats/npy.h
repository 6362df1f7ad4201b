// NumPy's files of arrays.
#pragma once

#include <cstdint>
#include <string>

namespace rwkvx {

// The beginning of an NPY file, version 1.0, with a float32 matrix (rows, columns): its numbers
// follow row after row, little-endian. A multiple of 64 bytes.
// Source: NumPy's documentation of numpy.lib.format, "Format Version 1.0".
std::string npy_header(std::int64_t rows, std::int64_t columns);

}  // namespace rwkvx

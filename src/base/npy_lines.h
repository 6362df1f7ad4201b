// NumPy's files of integers as JSON lines.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace rwkvx {

// Gives the integers of an NPY file to write(): a vector as one line "[1,2,3]", a matrix as a line
// for each row. Throws DataError with `name` for arrays of other numbers, of more dimensions or in
// another order, and for files whose length is not what their header says; FileError where the file
// cannot be read.
// Source: NumPy's documentation of numpy.lib.format, versions 1.0 to 3.0.
void npy_to_lines(const std::string& path, const std::string& name,
                  const std::function<void(std::string_view)>& write);

}  // namespace rwkvx

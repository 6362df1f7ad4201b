#include "rwkvx/formats/npy.h"

#include <gtest/gtest.h>

namespace rwkvx {
namespace {

// numpy.save() of an array (3, 5) of float32 begins with these bytes.
TEST(Npy, HeaderIsThatOfNumPy) {
  const auto header = npy_header(3, 5);
  std::string wanted("\x93NUMPY\x01\x00\x76\x00", 10);
  wanted += "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5), }";
  wanted.resize(127, ' ');
  EXPECT_EQ(header, wanted + "\n");
}

TEST(Npy, NumbersBeginAtAMultipleOf64Bytes) {
  for (std::int64_t rows = 1; rows < 1000000000000000; rows *= 10)
    for (const std::int64_t columns : {1, 16, 4096}) {
      const auto header = npy_header(rows, columns);
      EXPECT_EQ(header.size() % 64, 0u);
      EXPECT_EQ(header.back(), '\n');
      EXPECT_EQ(static_cast<unsigned char>(header[8]) + 256 * static_cast<unsigned char>(header[9]),
                static_cast<int>(header.size()) - 10);
    }
}

}  // namespace
}  // namespace rwkvx

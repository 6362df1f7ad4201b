// What a FileError says.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "rwkvx/base/error.h"

namespace rwkvx {

// The message of the FileError that `work` throws; a failure of the test where it throws none.
template <class Work>
std::string file_error(const Work& work) {
  try {
    work();
  } catch (const FileError& error) {
    EXPECT_EQ(error.exit_status(), 3);
    return error.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return "";
}

}  // namespace rwkvx

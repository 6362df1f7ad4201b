#include <gtest/gtest.h>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

TEST(AppendFile, KeepsWholeLinesAndCutsAnUnfinishedOne) {
  const ScratchDirectory scratch;
  const auto path = scratch / "lines";
  AppendFile(path, false).append("one\n");
  EXPECT_EQ(read_file(path), "one\n");
  for (const std::size_t rest :
       {std::size_t{0}, std::size_t{3}, std::size_t{4095}, std::size_t{9000}}) {
    write_file(path, "one\ntwo\n" + std::string(rest, 'x'));
    AppendFile file(path, false);
    EXPECT_EQ(file.size(), 8);
    file.append("three\n");
    EXPECT_EQ(read_file(path), "one\ntwo\nthree\n");
  }
  write_file(path, "no line at all");
  EXPECT_EQ(AppendFile(path, false).size(), 0);
  EXPECT_EQ(read_file(path), "");
  write_file(path, "one\n");
  AppendFile(path, true).append("anew\n");
  EXPECT_EQ(read_file(path), "anew\n");
}

TEST(AppendFile, SaysWhichFileCannotBeWritten) {
  const ScratchDirectory scratch;
  EXPECT_THROW(AppendFile(scratch / "no/file", false), FileError);
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "there is no /dev/full here";
  AppendFile full("/dev/full", false);
  EXPECT_THROW(full.append("line\n"), FileError);
}

}  // namespace
}  // namespace rwkvx

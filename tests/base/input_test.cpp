#include "rwkvx/base/input.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

TEST(Input, ARegularFileIsItself) {
  const ScratchDirectory scratch;
  write_file(scratch / "a", "text");
  const Input input(scratch / "a");
  EXPECT_EQ(input.path(), scratch / "a");
  EXPECT_EQ(input.name(), (scratch / "a").string());
  const Input missing(scratch / "none");  // reported by whoever reads it
  EXPECT_EQ(missing.path(), scratch / "none");
}

TEST(Input, APipeCanBeReadAndMappedAgainAndAgain) {
  const ScratchDirectory scratch;
  const std::string text = std::string(5 << 20, 'x') + "end\n";
  ASSERT_EQ(::mkfifo((scratch / "pipe").c_str(), 0600), 0);
  std::thread writer([&] { write_file(scratch / "pipe", text); });
  Input opened(scratch / "pipe");
  writer.join();
  const Input input(std::move(opened));
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(read_file(input.path()) == text);
  EXPECT_TRUE(MappedFile(input.path()).text() == text);
  EXPECT_EQ(input.name(), (scratch / "pipe").string());
}

TEST(Input, OfNothingIsEmpty) {
  const Input input("/dev/null");
  EXPECT_EQ(read_file(input.path()), "");
}

}  // namespace
}  // namespace rwkvx

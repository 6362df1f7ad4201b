#include "rwkvx/base/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rwkvx/base/error.h"
#include "rwkvx/base/output_file.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

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

TEST(ReadFile, NamesTheFileThatCannotBeRead) {
  const ScratchDirectory folder;
  EXPECT_THAT(file_error([&] { read_file(folder / "none"); }),
              testing::StartsWith((folder / "none").string() + ": cannot open"));
  EXPECT_THAT(file_error([&] { read_file(folder.path()); }),
              testing::HasSubstr("is a directory, expected a file"));
}

TEST(ReadFile, KeepsEveryByte) {
  const ScratchDirectory folder;
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  write_file(folder / "a", bytes);
  EXPECT_EQ(read_file(folder / "a"), bytes);
}

TEST(MappedFile, ShowsTheFilesBytes) {
  const ScratchDirectory folder;
  const std::string bytes(20000, 'x');
  write_file(folder / "a", bytes);
  const MappedFile file(folder / "a");
  EXPECT_EQ(file.text(), bytes);
  EXPECT_EQ(file.bytes().size(), bytes.size());
  file.drop(0, bytes.size());  // dropped pages are read again where they are needed
  EXPECT_EQ(file.text(), bytes);
}

TEST(MappedFile, AnEmptyFileIsEmpty) {
  const ScratchDirectory folder;
  write_file(folder / "a", "");
  const MappedFile file(folder / "a");
  EXPECT_TRUE(file.bytes().empty());
  EXPECT_EQ(file.text(), "");
  file.drop(0, 100);
}

TEST(MappedFile, NamesTheFileThatIsNotThere) {
  const ScratchDirectory folder;
  EXPECT_THAT(file_error([&] { const MappedFile file(folder / "none"); }),
              testing::HasSubstr((folder / "none").string()));
}

// XXH3-128 of the empty text, as the xxhash sources' own test vectors have it.
TEST(Hash, IsXxh3With128Bits) { EXPECT_EQ(hash_bytes(""), "99aa06d3014798d86001c324468d497f"); }

TEST(Hash, OfAFileIsThatOfItsBytes) {
  const ScratchDirectory folder;
  std::string bytes(3000000, 'a');
  bytes[2999999] = 'b';
  write_file(folder / "a", bytes);
  EXPECT_EQ(hash_file(folder / "a"), hash_bytes(bytes));
  EXPECT_NE(hash_bytes(bytes), hash_bytes(std::string(3000000, 'a')));
}

TEST(Hash, OfPiecesIsThatOfTheWhole) {
  Hasher hasher;
  hasher.add("one ");
  hasher.add("");
  hasher.add("two");
  EXPECT_EQ(hasher.hex(), hash_bytes("one two"));
  hasher.add("!");
  EXPECT_EQ(hasher.hex(), hash_bytes("one two!"));
}

}  // namespace
}  // namespace rwkvx

#include "rwkvx/base/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rwkvx/base/error.h"
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

std::size_t files_in(const std::filesystem::path& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

TEST(AtomicFile, LeavesTheOldContentWhereItIsNotCommitted) {
  const ScratchDirectory folder;
  write_file(folder / "a", "old");
  {
    AtomicFile file(folder / "a");
    file.write("new");
    EXPECT_EQ(read_file(folder / "a"), "old");
  }
  EXPECT_EQ(read_file(folder / "a"), "old");
  EXPECT_EQ(files_in(folder.path()), 1u);
}

TEST(AtomicFile, ReplacesTheOldContentWhenCommitted) {
  const ScratchDirectory folder;
  write_file(folder / "a", "old, and longer");
  {
    AtomicFile file(folder / "a");
    file.write("n");
    file.write("ew");
    EXPECT_EQ(file.size(), 3u);
    file.commit();
  }
  EXPECT_EQ(read_file(folder / "a"), "new");
  EXPECT_EQ(files_in(folder.path()), 1u);
}

TEST(AtomicFile, WritesMoreThanItsBufferHolds) {
  const ScratchDirectory folder;
  std::string bytes;
  AtomicFile file(folder / "a");
  for (int i = 0; i < 300; ++i) {
    const std::string piece(9973, static_cast<char>(i));
    file.write(piece);
    bytes += piece;
  }
  file.commit();
  EXPECT_TRUE(read_file(folder / "a") == bytes);
}

TEST(AtomicFile, OverwritesWhatItHasWritten) {
  const ScratchDirectory folder;
  AtomicFile file(folder / "a");
  file.write("....body");
  file.write_at(0, "head");
  file.write(" tail");
  file.commit();
  EXPECT_EQ(read_file(folder / "a"), "headbody tail");
}

TEST(AtomicFile, NamesTheFileThatCannotBeWritten) {
  const ScratchDirectory folder;
  EXPECT_THAT(file_error([&] { write_file(folder / "missing" / "a", "x"); }),
              testing::AllOf(testing::HasSubstr((folder / "missing" / "a").string()),
                             testing::HasSubstr("No such file or directory")));
}

TEST(ReadFile, NamesTheFileThatCannotBeRead) {
  const ScratchDirectory folder;
  EXPECT_THAT(file_error([&] { read_file(folder / "none"); }),
              testing::StartsWith((folder / "none").string() + ": cannot open"));
  EXPECT_THAT(file_error([&] { read_file(folder.path()); }),
              testing::HasSubstr("is a directory, wanted a file"));
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

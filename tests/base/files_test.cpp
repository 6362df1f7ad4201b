#include "rwkvx/base/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rwkvx/base/error.h"
#include "rwkvx/base/output_file.h"
#include "support/file_error.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

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

// Somebody cuts the file while it is mapped: no signal, zeros, an error where it is asked for.
TEST(MappedFile, AFileThatShrinksIsAnErrorAndNoSignal) {
  const ScratchDirectory folder;
  const std::string bytes(100000, 'x');
  for (const std::uintmax_t left : {0, 5000, 99999}) {
    write_file(folder / "a", bytes);
    {
      const MappedFile file(folder / "a");
      EXPECT_NO_THROW(file.check());
      std::filesystem::resize_file(folder / "a", left);
      std::size_t kept = 0;
      for (const char c : file.text()) kept += c == 'x';
      EXPECT_EQ(kept, left);
      EXPECT_THAT(file_error([&] { file.check(); }), testing::HasSubstr("a: became shorter"));
      if (left < 90000) {  // a whole page is gone
        EXPECT_THAT(file_error(check_mapped_files), testing::HasSubstr("a: became shorter"));
      }
    }
    EXPECT_THAT(file_error(check_mapped_files), testing::HasSubstr("a: became shorter")) << left;
    EXPECT_NO_THROW(check_mapped_files());
  }
}

TEST(MappedFile, OthersAreReadOnWhileOneShrinks) {
  const ScratchDirectory folder;
  write_file(folder / "a", std::string(20000, 'a'));
  write_file(folder / "b", std::string(20000, 'b'));
  {
    const MappedFile a(folder / "a"), b(folder / "b");
    std::filesystem::resize_file(folder / "a", 0);
    EXPECT_EQ(a.text().back(), '\0');
    EXPECT_EQ(b.text(), std::string(20000, 'b'));
    EXPECT_NO_THROW(b.check());
    EXPECT_THROW(a.check(), FileError);
  }
  EXPECT_THROW(check_mapped_files(), FileError);
}

// Growing, being replaced and being removed leave what was mapped as it was.
TEST(MappedFile, GrowingOrGoingIsNoShrinking) {
  const ScratchDirectory folder;
  write_file(folder / "a", "four");
  {
    const MappedFile file(folder / "a");
    std::filesystem::resize_file(folder / "a", 100);
    write_file(folder / "a", "");
    std::filesystem::remove(folder / "a");
    EXPECT_EQ(file.text(), "four");
    EXPECT_NO_THROW(file.check());
  }
  EXPECT_NO_THROW(check_mapped_files());
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

#include "rwkvx/base/output_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "support/file_error.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Runs `work` in another process, which is then killed as it is.
template <class Work>
void in_killed_process(const Work& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    work();
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status));
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

TEST(AtomicFile, OfSeveralWritersTheLastOneWinsWhole) {
  const ScratchDirectory folder;
  AtomicFile first(folder / "a"), second(folder / "a");
  first.write("first");
  second.write("second, longer");
  second.commit();
  first.commit();
  EXPECT_EQ(read_file(folder / "a"), "first");
  EXPECT_EQ(files_in(folder.path()), 1u);

  std::vector<std::thread> writers;
  for (int writer = 0; writer < 8; ++writer)
    writers.emplace_back([&, writer] {
      for (int i = 0; i < 20; ++i)
        write_file(folder / "a", std::string(1000 + writer, static_cast<char>('a' + writer)));
    });
  for (auto& writer : writers) writer.join();
  const auto text = read_file(folder / "a");
  ASSERT_GE(text.size(), 1000u);
  EXPECT_EQ(text, std::string(1000 + static_cast<std::size_t>(text[0] - 'a'), text[0]));
  EXPECT_EQ(files_in(folder.path()), 1u);
}

TEST(AtomicFile, RemovesWhatKilledWritersOfTheSameNameLeft) {
  const ScratchDirectory folder;
  for (const char* name : {"a", "other"})
    in_killed_process([&] {
      AtomicFile* file = new AtomicFile(folder / name);
      file->write(std::string(3 << 20, 'x'));
    });
  write_file(folder / "a.rwkvx-abc.tmp", "of somebody else");
  EXPECT_EQ(files_in(folder.path()), 3u);
  AtomicFile living(folder / "a");
  write_file(folder / "a", "whole");
  EXPECT_EQ(files_in(folder.path()), 4u);  // the other's, the foreign one, the living one's, a
  living.commit();
  remove_leftovers(folder.path());
  EXPECT_EQ(files_in(folder.path()), 2u);
  EXPECT_EQ(read_file(folder / "a.rwkvx-abc.tmp"), "of somebody else");
}

TEST(AtomicFile, WritesThroughALinkAndKeepsPermissions) {
  const ScratchDirectory folder;
  std::filesystem::create_directory(folder / "far");
  write_file(folder / "far/target", "old");
  ASSERT_EQ(::chmod((folder / "far/target").c_str(), 0640), 0);
  std::filesystem::create_symlink("far/target", folder / "link");
  write_file(folder / "link", "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  EXPECT_EQ(read_file(folder / "far/target"), "new");
  struct stat status {};
  ASSERT_EQ(::stat((folder / "far/target").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640u);
  std::filesystem::create_symlink("far/later", folder / "dangling");
  write_file(folder / "dangling", "made");
  EXPECT_EQ(read_file(folder / "far/later"), "made");
}

TEST(AtomicFile, WritesStraightToWhatIsNoRegularFile) {
  const ScratchDirectory folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  std::string got;
  std::thread reader([&] { got = read_file(folder / "pipe"); });
  write_file(folder / "pipe", "through");
  reader.join();
  EXPECT_EQ(got, "through");
  EXPECT_EQ(files_in(folder.path()), 1u);
  write_file("/dev/null", "gone");
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
  EXPECT_THAT(file_error([&] { write_file("/dev/full", "no room"); }), HasSubstr("No space left"));
  EXPECT_THAT(file_error([&] { AtomicFile(folder.path()); }), HasSubstr("is a directory"));
}

TEST(AppendFile, KeepsWholeLinesAndCutsAnUnfinishedOne) {
  const ScratchDirectory scratch;
  const auto path = scratch / "lines";
  AppendFile(path).append("one\n");
  EXPECT_EQ(read_file(path), "one\n");
  for (const std::size_t rest :
       {std::size_t{0}, std::size_t{3}, std::size_t{4095}, std::size_t{9000}}) {
    write_file(path, "one\ntwo\n" + std::string(rest, 'x'));
    AppendFile file(path);
    EXPECT_EQ(file.size(), 8);
    EXPECT_EQ(file.unfinished(), static_cast<std::int64_t>(rest));
    file.cut();
    file.append("three\n");
    EXPECT_EQ(read_file(path), "one\ntwo\nthree\n");
  }
  AppendFile file(path);
  file.clear();
  file.append("anew\n");
  EXPECT_EQ(read_file(path), "anew\n");
}

TEST(AppendFile, ChangesNothingByBeingOpened) {
  const ScratchDirectory scratch;
  const auto path = scratch / "lines";
  { AppendFile file(path); }
  EXPECT_FALSE(std::filesystem::exists(path));
  write_file(path, "no line at all");
  {
    AppendFile file(path);
    EXPECT_EQ(file.size(), 0);
    EXPECT_EQ(file.unfinished(), 14);
    EXPECT_THROW(file.append("line\n"), std::logic_error);
  }
  EXPECT_EQ(read_file(path), "no line at all");
  EXPECT_EQ(files_in(scratch.path()), 1u);
}

TEST(AppendFile, HasOneOwner) {
  const ScratchDirectory scratch;
  AppendFile file(scratch / "lines");
  EXPECT_THAT(file_error([&] { AppendFile second(scratch / "lines"); }),
              AllOf(HasSubstr("is in use by process " + std::to_string(::getpid()))));
  std::filesystem::create_symlink("lines", scratch / "link");
  EXPECT_THAT(file_error([&] { AppendFile second(scratch / "link"); }), HasSubstr("is in use"));
}

TEST(AppendFile, SaysWhichFileCannotBeWritten) {
  const ScratchDirectory scratch;
  EXPECT_THROW(AppendFile(scratch / "no/file"), FileError);
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "there is no /dev/full here";
  AppendFile full("/dev/full");
  EXPECT_THROW(full.append("line\n"), FileError);
}

TEST(SameFile, KnowsLinksAndOtherSpellings) {
  const ScratchDirectory scratch;
  write_file(scratch / "a", "x");
  write_file(scratch / "b", "x");
  std::filesystem::create_directory(scratch / "d");
  std::filesystem::create_symlink(scratch / "a", scratch / "soft");
  std::filesystem::create_hard_link(scratch / "a", scratch / "hard");
  for (const char* name : {"a", "./a", "d/../a", "soft", "hard"}) {
    EXPECT_TRUE(same_file(scratch / "a", scratch / name)) << name;
    EXPECT_THROW(refuse_same_file("--output", scratch / name, {{"--input", scratch / "a"}}),
                 ConfigError);
  }
  EXPECT_FALSE(same_file(scratch / "a", scratch / "b"));
  EXPECT_FALSE(same_file(scratch / "none", scratch / "none"));
  refuse_same_file("--output", "", {{"--input", ""}});
  refuse_same_file("--output", "/dev/null", {{"--input", "/dev/null"}});
  refuse_same_file("--output", scratch / "b", {{"--input", scratch / "a"}});
}

TEST(CheckWritable, ChangesNothing) {
  const ScratchDirectory scratch;
  check_writable(scratch / "new");
  EXPECT_EQ(files_in(scratch.path()), 0u);
  EXPECT_THAT(file_error([&] { check_writable(scratch / "no/file"); }),
              HasSubstr("No such file or directory"));
  EXPECT_THAT(file_error([&] { check_writable(scratch.path()); }), HasSubstr("is a directory"));
  check_writable("/dev/full");
}

}  // namespace
}  // namespace rwkvx

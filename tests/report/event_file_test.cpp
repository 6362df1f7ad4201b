#include "rwkvx/report/event_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string hex(const std::string& bytes) {
  std::string text;
  char two[3];
  for (const unsigned char byte : bytes) {
    std::snprintf(two, sizeof two, "%02x", byte);
    text += two;
  }
  return text;
}

std::vector<std::string> names_in(const std::filesystem::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(Crc32c, GivesTheValuesOfRfc3720) {  // appendix B.4
  std::string up, down;
  for (int i = 0; i < 32; ++i) up += static_cast<char>(i), down += static_cast<char>(31 - i);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43U);
  EXPECT_EQ(crc32c(up), 0x46dd794eU);
  EXPECT_EQ(crc32c(down), 0x113fdb5cU);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283U);
  EXPECT_EQ(crc32c(""), 0U);
}

// The bytes that the package tensorboard 2.x writes for the same event.
TEST(EventFile, AScalarHasTheBytesOfTensorBoardsWriter) {
  const auto event = scalar_event({1.5, 3}, "a", 2.0F);
  EXPECT_EQ(hex(event), "09000000000000f83f10032a0a0a080a01611500000040");
  EXPECT_EQ(hex(tfrecord(event)),
            "1700000000000000e7cef81e09000000000000f83f10032a0a0a080a01611500000040e81c3a9d");
}

TEST(EventFile, BeginsWithItsVersionAndHoldsWhatWasFlushed) {
  const ScratchDirectory scratch;
  const auto folder = scratch.path() / "events";
  EventFile file(folder);
  file.scalar("loss", 1.25, 7);
  file.text("note", "caf\xc3\xa9 \xff", 7);
  const auto names = names_in(folder);
  ASSERT_EQ(names.size(), 1U);
  EXPECT_THAT(names[0], StartsWith("events.out.tfevents."));
  EXPECT_EQ(read_file(folder / names[0]), "");
  file.flush();
  const auto bytes = read_file(folder / names[0]);
  EXPECT_THAT(bytes.substr(0, 48), HasSubstr("brain.Event:2"));
  EXPECT_THAT(bytes, HasSubstr("caf\xc3\xa9 \xef\xbf\xbd"));
  EXPECT_THAT(bytes, Not(HasSubstr("\xff ")));
}

TEST(EventFile, NamesSortInTheOrderInWhichTheFilesWereBegun) {
  const ScratchDirectory scratch;
  const auto folder = scratch.path() / "events";
  std::vector<std::string> in_order;
  for (int i = 0; i < 3; ++i) {
    const EventFile file(folder);
    for (const auto& name : names_in(folder))
      if (std::find(in_order.begin(), in_order.end(), name) == in_order.end())
        in_order.push_back(name);
  }
  EXPECT_EQ(in_order.size(), 3U);
  EXPECT_TRUE(std::is_sorted(in_order.begin(), in_order.end()));
}

TEST(EventFile, RemovesEventFilesAndNothingElse) {
  const ScratchDirectory scratch;
  const auto folder = scratch.path() / "events";
  { const EventFile file(folder); }
  write_file(folder / "mine.txt", "");
  remove_event_files(folder);
  EXPECT_EQ(names_in(folder), std::vector<std::string>{"mine.txt"});
  std::filesystem::remove(folder / "mine.txt");
  { const EventFile file(folder); }
  remove_event_files(folder);
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST(EventFile, SaysWhereItCannotBe) {
  const ScratchDirectory scratch;
  write_file(scratch / "file", "");
  EXPECT_THROW(EventFile(scratch.path() / "file"), FileError);
}

}  // namespace
}  // namespace rwkvx

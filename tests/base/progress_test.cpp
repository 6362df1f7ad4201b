#include "rwkvx/base/progress.h"

#include <gtest/gtest.h>
#include <pty.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <string>

namespace rwkvx {
namespace {

TEST(DurationText, UsesTheTwoLargestUnits) {
  EXPECT_EQ(duration_text(0), "0s");
  EXPECT_EQ(duration_text(12.4), "12s");
  EXPECT_EQ(duration_text(59.6), "1m00s");
  EXPECT_EQ(duration_text(185), "3m05s");
  EXPECT_EQ(duration_text(3720), "1h02m");
  EXPECT_EQ(duration_text(90000), "1d01h");
  EXPECT_EQ(duration_text(-5), "0s");
}

TEST(BytesText, PicksTheUnitThatFits) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(17), "17 B");
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(12 * 1024), "12.0 KiB");
  EXPECT_EQ(bytes_text(1.5 * 1024 * 1024 * 1024), "1.5 GiB");
}

TEST(CountText, PartsThousands) {
  EXPECT_EQ(count_text(0), "0");
  EXPECT_EQ(count_text(999), "999");
  EXPECT_EQ(count_text(1000), "1,000");
  EXPECT_EQ(count_text(1234567), "1,234,567");
  EXPECT_EQ(count_text(-123), "-123");
  EXPECT_EQ(count_text(-123456), "-123,456");
  EXPECT_EQ(count_text(INT64_MIN), "-9,223,372,036,854,775,808");
}

TEST(Progress, PrintsPlainLinesWhereThereIsNoTerminal) {
  testing::internal::CaptureStderr();
  {
    Progress progress("reading", /*total=*/10, /*quiet=*/false, /*plain_every=*/0);
    EXPECT_TRUE(progress.plain());
    progress.update(5, "loss 1.5");
    progress.update(10);
    progress.finish();
  }
  const auto text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(text.find('\r'), std::string::npos);
  EXPECT_NE(text.find("rwkvx: reading  50%  loss 1.5"), std::string::npos) << text;
  EXPECT_NE(text.find("100%"), std::string::npos) << text;
}

TEST(Progress, SaysNothingWhenQuiet) {
  testing::internal::CaptureStderr();
  {
    Progress progress("reading", 10, /*quiet=*/true, 0);
    progress.update(5);
    progress.finish();
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(Progress, SaysNothingAboutAShortJob) {
  testing::internal::CaptureStderr();
  {
    Progress progress("reading", 10);
    progress.update(10);
    progress.finish();
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

// What one update shows on a terminal of this width, without its line controls.
std::string shown_on_terminal(unsigned short width, const std::string& note) {
  int master = -1, terminal = -1;
  winsize size{};
  size.ws_col = width, size.ws_row = 24;
  if (::openpty(&master, &terminal, nullptr, nullptr, &size) != 0) return "no terminal";
  std::fflush(stderr);
  const int before = ::dup(STDERR_FILENO);
  ::dup2(terminal, STDERR_FILENO);
  {
    Progress progress("training", 100);
    progress.update(50, note);
    std::fflush(stderr);
  }
  ::dup2(before, STDERR_FILENO);
  ::close(before);
  ::close(terminal);
  char text[1024];
  const auto got = ::read(master, text, sizeof text);
  ::close(master);
  const std::string all(text, got > 0 ? static_cast<std::size_t>(got) : 0);
  const auto end = all.find("\033[K");
  return all.substr(1, end == std::string::npos ? end : end - 1);  // between "\r" and "\033[K"
}

TEST(Progress, ANarrowTerminalShowsTheFirstPartsOfANoteAndTheTimeLeft) {
  const std::string note = "step 50  loss 2.5000  valid 2.6000  409,600 tokens  51,200 tokens/s";
  for (const unsigned short width : {20, 30, 40, 60, 80, 120, 200}) {
    const auto line = shown_on_terminal(width, note);
    EXPECT_LT(line.size(), width) << line;
    EXPECT_NE(line.find("training  50%"), std::string::npos) << width << ": " << line;
    if (width >= 30) {
      EXPECT_NE(line.find(" left"), std::string::npos) << width << ": " << line;
    }
    if (width >= 40) {
      EXPECT_NE(line.find("step 50"), std::string::npos) << width << ": " << line;
    }
    if (width >= 60) {
      EXPECT_NE(line.find("loss 2.5000"), std::string::npos) << line;
    }
    if (width >= 120) {
      EXPECT_NE(line.find(note), std::string::npos) << line;
    }
  }
}

}  // namespace
}  // namespace rwkvx

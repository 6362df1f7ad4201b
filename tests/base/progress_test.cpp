#include "rwkvx/base/progress.h"

#include <gtest/gtest.h>

#include <cstdint>

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

}  // namespace
}  // namespace rwkvx

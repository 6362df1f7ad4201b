#include "rwkvx/eval/side_by_side.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace rwkvx {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(SideBySide, MarksTheLongestCommonSubsequenceOnBothSides) {
  const auto html = html_side_by_side("r", "The cat sat, still.", "p", "A CAT then still");
  EXPECT_THAT(html, HasSubstr("The <mark>cat</mark> sat, <mark>still</mark>."));
  EXPECT_THAT(html, HasSubstr("A <mark>CAT</mark> then <mark>still</mark>"));
  EXPECT_THAT(html_side_by_side("r", "a b", "p", "a b", /*most_words=*/1),
              Not(HasSubstr("<mark>")));
}

TEST(SideBySide, EscapesWhateverATextHolds) {
  const std::string evil = "</title><script>alert(1)</script>";
  EXPECT_THAT(html_side_by_side(evil, evil, evil, evil), Not(HasSubstr("<script")));
}

}  // namespace
}  // namespace rwkvx

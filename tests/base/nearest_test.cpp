#include "rwkvx/base/nearest.h"

#include <gtest/gtest.h>

namespace rwkvx {
namespace {

TEST(EditDistance, CountsInsertionsDeletionsReplacementsAndSwaps) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("abc", ""), 3u);
  EXPECT_EQ(edit_distance("abc", "abc"), 0u);
  EXPECT_EQ(edit_distance("abc", "abd"), 1u);
  EXPECT_EQ(edit_distance("abc", "acb"), 1u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
}

TEST(EditDistance, IsTheSameBothWays) {
  const std::vector<std::string> words = {"", "a", "n_layer", "layern", "batch", "hatch_size"};
  for (const auto& a : words)
    for (const auto& b : words)
      EXPECT_EQ(edit_distance(a, b), edit_distance(b, a)) << a << ' ' << b;
}

TEST(Nearest, FindsWhatWasMeant) {
  const std::vector<std::string> valid = {"n_layer", "n_embd", "batch_size", "learning_rate"};
  EXPECT_EQ(nearest("n_layers", valid), "n_layer");
  EXPECT_EQ(nearest("n_embed", valid), "n_embd");
  EXPECT_EQ(nearest("learn_rate", valid), "learning_rate");
}

TEST(Nearest, SaysNothingWhereNothingIsClose) {
  EXPECT_EQ(nearest("temperature", {"n_layer", "n_embd"}), "");
  EXPECT_EQ(nearest("ab", {"xy"}), "");
  EXPECT_EQ(nearest("word", {}), "");
  EXPECT_EQ(nearest(std::string(100000, 'a'), {"a"}), "");
}

TEST(DidYouMean, IsASentenceOrNothing) {
  EXPECT_EQ(did_you_mean("n_layers", {"n_layer"}), "; did you mean \"n_layer\"?");
  EXPECT_EQ(did_you_mean("zzz", {"n_layer"}), "");
}

}  // namespace
}  // namespace rwkvx

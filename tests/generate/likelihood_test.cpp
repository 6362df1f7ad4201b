#include "rwkvx/generate/likelihood.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "rwkvx/base/output_file.h"
#include "support/random_model.h"

namespace rwkvx {
namespace {

std::vector<std::vector<Likelihood>> score(Generator& generator,
                                           const std::vector<LikelihoodRequest>& requests,
                                           std::int64_t slots,
                                           ContinuationTokens tokens = ContinuationTokens::kJoint) {
  std::vector<std::vector<Likelihood>> found;
  std::size_t asked = 0;
  continuation_likelihoods(
      generator, tokens, slots,
      [&]() -> std::optional<LikelihoodRequest> {
        if (asked == requests.size()) return std::nullopt;
        return requests[asked++];
      },
      [&](std::int64_t request, const std::vector<Likelihood>& one) {
        EXPECT_EQ(request, static_cast<std::int64_t>(found.size()));
        found.push_back(one);
      });
  return found;
}

std::vector<LikelihoodRequest> some_requests() {
  std::string examples;
  for (int i = 0; i < 60; ++i) examples += "question " + std::to_string(i) + " answer\n";
  std::vector<LikelihoodRequest> requests = {{"", {"a", "bird"}}, {"short ", {"x", "yz", "words"}}};
  for (int i = 0; i < 5; ++i)  // of three chunks, the first ones shared
    requests.push_back({examples + std::to_string(i), {" one", " another one", "!"}});
  requests.push_back({examples, {}});
  return requests;
}

TEST(Likelihood, IsThatOfTheTokensOneAfterTheOther) {
  const RandomModel made;
  const auto requests = some_requests();
  const auto found = score(*made.generator, requests, 8);
  ASSERT_EQ(found.size(), requests.size());
  for (std::size_t i = 0; i < requests.size(); ++i) {
    ASSERT_EQ(found[i].size(), requests[i].continuations.size());
    for (std::size_t k = 0; k < found[i].size(); ++k) {
      Session session(*made.generator);
      session.feed(requests[i].prompt);
      double logprob = 0;
      std::int64_t tokens = 0;
      bool greedy = true;
      session.feed(
          requests[i].continuations[k],
          [&](const PromptToken& one) {
            logprob += *one.logprob;
            greedy = greedy && one.top.front().token == one.token;
            ++tokens;
          },
          1);
      EXPECT_NEAR(found[i][k].logprob, logprob, 1e-4 * static_cast<double>(tokens));
      EXPECT_EQ(found[i][k].tokens, tokens);
      EXPECT_EQ(found[i][k].greedy, greedy);
      EXPECT_FALSE(found[i][k].merged);
    }
  }
}

TEST(Likelihood, DependsNeitherOnSlotsNorOnWhatRunsBeside) {
  const RandomModel made;
  const auto requests = some_requests();
  const auto one = score(*made.generator, requests, 1);
  const auto two_threads = made.open(2);
  for (const auto& found : {score(*made.generator, requests, 3), score(*two_threads, requests, 64)})
    for (std::size_t i = 0; i < one.size(); ++i)
      for (std::size_t k = 0; k < one[i].size(); ++k)
        EXPECT_EQ(found[i][k].logprob, one[i][k].logprob) << i << " " << k;
  // Alone, without the state that the request before it left.
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const auto alone = score(*made.generator, {requests[i]}, 4).front();
    for (std::size_t k = 0; k < alone.size(); ++k)
      EXPECT_EQ(alone[k].logprob, one[i][k].logprob) << i << " " << k;
  }
}

TEST(Likelihood, JointTokensMayMergeAcrossThePromptsEnd) {
  const RandomModel made([](const ScratchDirectory& folder) {
    std::string vocabulary;
    for (int i = 0; i < 256; ++i) {
      const char digits[] = "0123456789abcdef";
      vocabulary += std::to_string(i + 1) + " b'\\x" + digits[i / 16] + digits[i % 16] + "' 1\n";
    }
    vocabulary += "257 'ab' 2\n";
    write_file(folder / "vocabulary.txt", vocabulary);
    return load_tokenizer(folder / "vocabulary.txt");
  });
  const std::vector<LikelihoodRequest> requests = {{"xa", {"b", "bc", "c"}}};
  const auto joint = score(*made.generator, requests, 4).front();
  EXPECT_EQ(joint[0].tokens, 0);  // "x", "ab" are as many as the prompt's
  EXPECT_EQ(joint[1].tokens, 1);
  EXPECT_TRUE(joint[1].merged);
  EXPECT_FALSE(joint[2].merged);
  const auto apart = score(*made.generator, requests, 4, ContinuationTokens::kApart).front();
  EXPECT_EQ(apart[0].tokens, 1);
  EXPECT_EQ(apart[1].tokens, 2);
  EXPECT_EQ(apart[2].logprob, joint[2].logprob);
}

}  // namespace
}  // namespace rwkvx

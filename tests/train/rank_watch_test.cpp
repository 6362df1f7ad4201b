#include "train/rank_watch.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>

namespace rwkvx {
namespace {

// So long that nothing here ends the process.
constexpr double kTimeout = 60;

std::unique_ptr<RankWatch> other(int rank, int size, const RankWatch& first) {
  return std::make_unique<RankWatch>(rank, size, kTimeout, "127.0.0.1", first.port(), first.key());
}
void wait_until_all_are_there(RankWatch& first) {
  for (int i = 0; i < 500 && !first.absent().empty(); ++i) ::usleep(10'000);
}

TEST(RankWatch, SaysWhichRanksHaveNotComeYet) {
  RankWatch first(4, kTimeout);
  EXPECT_EQ(first.absent(), "rank 1, rank 2, rank 3");
  const auto second = other(2, 4, first);
  for (int i = 0; i < 500 && first.absent() != "rank 1, rank 3"; ++i) ::usleep(10'000);
  EXPECT_EQ(first.absent(), "rank 1, rank 3");
  first.leave();
  second->leave();
}

TEST(RankWatch, AllLearnOfARankThatEnds) {
  RankWatch first(3, kTimeout);
  const auto second = other(1, 3, first);
  auto third = other(2, 3, first);
  wait_until_all_are_there(first);
  EXPECT_EQ(first.cause(), "");
  third.reset();
  for (auto* watch : {&first, second.get()}) {
    EXPECT_THAT(watch->wait_for_cause(), testing::StartsWith("rank 2 (process "));
    EXPECT_THAT(watch->cause(), testing::HasSubstr(" ended, so the training ends"));
  }
  EXPECT_TRUE(second->tell_failure("gone"));  // rank 0 shows it
  EXPECT_FALSE(first.tell_failure("gone"));
}

TEST(RankWatch, ARankThatHasLeftIsNotMissed) {
  RankWatch first(2, kTimeout);
  auto second = other(1, 2, first);
  wait_until_all_are_there(first);
  second->leave();
  second.reset();
  ::usleep(200'000);
  EXPECT_EQ(first.cause(), "");
  first.leave();
}

TEST(RankWatch, WhyARankFailsIsToldToAll) {
  RankWatch first(3, kTimeout);
  const auto second = other(1, 3, first), third = other(2, 3, first);
  wait_until_all_are_there(first);
  EXPECT_TRUE(second->tell_failure("no room on the disk"));
  EXPECT_EQ(third->wait_for_cause(), "rank 1: no room on the disk");
  EXPECT_EQ(first.cause(), "rank 1: no room on the disk");
  first.leave();
  third->leave();
}

TEST(RankWatch, StrangersAreSentAway) {
  RankWatch first(2, kTimeout);
  const int stranger = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(first.port()));
  ::inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  ASSERT_EQ(::connect(stranger, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::send(stranger, "h\x05\0\0\0guess", 10, 0), 10);
  char byte = 0;
  EXPECT_EQ(::recv(stranger, &byte, 1, 0), 0);  // the connection is closed
  ::close(stranger);
  EXPECT_EQ(first.cause(), "");
  EXPECT_EQ(first.absent(), "rank 1");
  first.leave();
}

TEST(RankWatch, PreparedIsToldToTheOthers) {
  RankWatch first(2, kTimeout);
  const auto second = other(1, 2, first);
  wait_until_all_are_there(first);
  EXPECT_FALSE(second->prepared());
  first.tell_prepared();
  for (int i = 0; i < 500 && !second->prepared(); ++i) ::usleep(10'000);
  EXPECT_TRUE(second->prepared());
  first.leave();
  second->leave();
}

}  // namespace
}  // namespace rwkvx

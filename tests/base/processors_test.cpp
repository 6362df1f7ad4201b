// The processors that a process may use, from made-up trees of /proc and /sys.
#include "rwkvx/base/processors.h"

#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "support/scratch.h"

namespace rwkvx {
namespace {

class CgroupTest : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) {
    const auto path = root_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  void mount2(const std::string& top = "/", const std::string& at = "/sys/fs/cgroup") {
    mounts_ += "41 31 0:38 " + top + " " + at + " rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
    write("proc/self/mountinfo", mounts_);
  }
  void mount1(const std::string& top = "/", const std::string& at = "/sys/fs/cgroup/cpu,cpuacct") {
    mounts_ += "32 31 0:29 " + top + " " + at + " rw - cgroup cgroup rw,cpu,cpuacct\n";
    write("proc/self/mountinfo", mounts_);
  }
  void expect(std::optional<double> quota) const { EXPECT_EQ(cgroup_quota(root_.path()), quota); }

  ScratchDirectory root_;
  std::string mounts_ = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n";
};

TEST_F(CgroupTest, NothingThereIsNoQuota) {
  expect(std::nullopt);
  mount2();
  expect(std::nullopt);
  write("proc/self/cgroup", "0::/a\n");
  expect(std::nullopt);
}

TEST_F(CgroupTest, TheSmallestQuotaOnTheWayUpCounts) {
  mount2();
  write("proc/self/cgroup", "0::/a/b/c\n");
  write("sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n");
  expect(std::nullopt);
  write("sys/fs/cgroup/a/cpu.max", "150000 100000\n");
  expect(1.5);
  write("sys/fs/cgroup/a/b/cpu.max", "400000 100000\n");
  expect(1.5);
  write("sys/fs/cgroup/a/b/c/cpu.max", "50000 100000\n");
  expect(0.5);
  write("sys/fs/cgroup/other/cpu.max", "1000 100000\n");
  expect(0.5);
}

TEST_F(CgroupTest, VersionOneAndBothAtOnce) {
  mount1();
  mount2("/", "/sys/fs/cgroup/unified");
  write("proc/self/cgroup", "12:memory:/m\n4:cpu,cpuacct:/x/y\n3:cpuset:/s\n0::/u\n");
  write("sys/fs/cgroup/cpu,cpuacct/x/y/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu,cpuacct/x/y/cpu.cfs_period_us", "100000\n");
  expect(std::nullopt);
  write("sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "200000\n");
  write("sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us", "50000\n");
  expect(4.0);
  write("sys/fs/cgroup/unified/u/cpu.max", "300000 100000\n");
  expect(3.0);
}

// A container that sees the names of the groups outside has its own group mounted as the top.
TEST_F(CgroupTest, InAContainerTheMountedGroupIsTheTop) {
  mount1("/docker/123", "/sys/fs/cgroup/cpu\\054cpuacct\\040of\\040it");
  write("proc/self/cgroup", "4:cpu,cpuacct:/docker/123/sub\n");
  write("sys/fs/cgroup/cpu,cpuacct of it/cpu.cfs_quota_us", "100000\n");
  write("sys/fs/cgroup/cpu,cpuacct of it/cpu.cfs_period_us", "100000\n");
  expect(1.0);
  write("sys/fs/cgroup/cpu,cpuacct of it/sub/cpu.cfs_quota_us", "70000\n");
  write("sys/fs/cgroup/cpu,cpuacct of it/sub/cpu.cfs_period_us", "100000\n");
  expect(0.7);
}

TEST_F(CgroupTest, AGroupThatIsNotBelowTheMountStandsForItsTop) {
  mount2("/docker/123");
  write("sys/fs/cgroup/cpu.max", "100000 100000\n");
  write("outside/cpu.max", "1 100000\n");
  for (const char* own : {"0::/../../outside\n", "0::/docker/124\n", "0::/docker/123/../x\n",
                          "0::/docker/123/../../../../outside\n"}) {
    write("proc/self/cgroup", own);
    expect(1.0);
  }
}

TEST_F(CgroupTest, ContentsThatMakeNoSenseAreNone) {
  mount2();
  mount1();
  write("proc/self/cgroup", "0::/\n1:cpu:/\n");
  for (const char* text : {"", "\n", "100000", "100000 0", "0 100000", "-5 100000", "1e5 1e5",
                           "99999999999999999999 100000", "100000 100000 1", "0x10 16", "max max",
                           "nan nan", "100000 -100000"}) {
    write("sys/fs/cgroup/cpu.max", text);
    write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", text);
    write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000");
    if (std::string(text) == "100000") continue;  // which is one in version 1
    expect(std::nullopt);
  }
  std::filesystem::remove(root_ / "sys/fs/cgroup/cpu.max");
  std::filesystem::create_directory(root_ / "sys/fs/cgroup/cpu.max");
  write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", std::string(100'000, '1'));
  expect(std::nullopt);
}

TEST_F(CgroupTest, DamagedListsOfGroupsAndMountsAreRead) {
  std::mt19937 random(7);
  mount2();
  mount1("/a");
  const std::string mounts = mounts_, own = "0::/a/b\n1:cpu,cpuacct:/a/c\n:::\n::\n\n";
  write("sys/fs/cgroup/a/cpu.max", "100000 100000");
  for (int i = 0; i < 500; ++i) {
    auto damaged = i % 2 == 0 ? mounts : own;
    for (int k = 0; k < 4; ++k)
      damaged[random() % damaged.size()] = static_cast<char>(random() % 4 == 0 ? ' ' : random());
    write("proc/self/mountinfo", i % 2 == 0 ? damaged : mounts);
    write("proc/self/cgroup", i % 2 == 0 ? own : damaged);
    const auto quota = cgroup_quota(root_.path());
    EXPECT_TRUE(!quota || *quota == 1.0);
  }
  std::string deep = "0::";
  for (int i = 0; i < 100'000; ++i) deep += "/d";
  write("proc/self/mountinfo", mounts);
  write("proc/self/cgroup", deep + "\n");
  expect(std::nullopt);
}

std::string chosen(std::int64_t wanted, const Processors& all) {
  const auto choice = choose_threads(wanted, all);
  EXPECT_EQ(choice.reason.substr(0, choice.reason.find_first_not_of("0123456789")),
            std::to_string(choice.threads));
  return choice.reason;
}

TEST(Processors, WhatIsUsedAndWhy) {
  EXPECT_EQ(chosen(0, {2, 2, {}, ""}), "2 of 2 processors");
  EXPECT_EQ(chosen(0, {8, 3, {}, ""}), "3 of 8 processors");
  EXPECT_EQ(chosen(0, {2, 2, 1.0, ""}), "1: the container's quota is 1.0 processors");
  EXPECT_EQ(chosen(0, {2, 2, 0.05, ""}), "1: the container's quota is 0.05 processors");
  EXPECT_EQ(chosen(0, {8, 8, 2.6, ""}), "3: the container's quota is 2.6 processors");
  EXPECT_EQ(chosen(0, {8, 8, 2.4, ""}), "2: the container's quota is 2.4 processors");
  EXPECT_EQ(chosen(0, {8, 4, 16.0, ""}), "4 of 8 processors");
  EXPECT_EQ(chosen(0, {8, 8, 1e30, ""}), "8 of 8 processors");
  EXPECT_EQ(chosen(0, {8, 8, 1.0, "4"}), "4: OMP_NUM_THREADS");
  EXPECT_EQ(chosen(0, {8, 8, {}, "4,2"}), "4: OMP_NUM_THREADS");
  for (const char* wish : {"0", "-1", "many", "4x", ",4", "99999999999"})
    EXPECT_EQ(chosen(0, {8, 8, {}, wish}), "8 of 8 processors") << wish;
  EXPECT_EQ(chosen(5, {2, 2, 1.0, "4"}), "5: as asked for");
}

TEST(Processors, OfThisProcess) {
  EXPECT_GE(processors().present, 1);
  EXPECT_GE(processors().allowed, 1);
  EXPECT_GE(choose_threads(0, processors()).threads, 1);
}

}  // namespace
}  // namespace rwkvx

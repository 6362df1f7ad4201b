// Which instruction set the kernels use, and RWKVX_SIMD.
#include "rwkvx/kernels/simd.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hwy/highway.h>

#include <cstdlib>
#include <string>

#include "rwkvx/base/error.h"

namespace rwkvx {
namespace {

using testing::HasSubstr;

// Sets RWKVX_SIMD and chooses; at its end, the best set is chosen again.
class Simd : public testing::Test {
 protected:
  static void choose(const char* name) {
    ::setenv("RWKVX_SIMD", name, 1);
    choose_simd();
  }
  ~Simd() override {
    ::unsetenv("RWKVX_SIMD");
    choose_simd();
  }
};

TEST_F(Simd, TheEnvironmentMayNameALesserSet) {
  choose("");
  const std::string best(simd_name());
  for (const std::string name : {"avx512_vnni", "avx512", "avx2_vnni", "avx2", "scalar"}) {
    try {
      choose(name.c_str());
    } catch (const ConfigError&) {
      continue;  // not an x86 CPU
    }
    // What the CPU does not have is not used: then it is the best one, or a lesser one.
    const bool older = name == "avx2" || name == "scalar";
    if (best == name || (best == "avx512_vnni" && name == "avx512") || older) {
      EXPECT_EQ(simd_name(), name);
    }
    EXPECT_EQ(uses_dot_instructions(simd_name().starts_with("avx512")),
              simd_name().ends_with("_vnni"));
  }
  choose("");
  EXPECT_EQ(simd_name(), best);
}

TEST_F(Simd, WhatIsChosenStaysSoWhenItsNameIsAskedFor) {
  choose("");
  if (!simd_name().starts_with("avx")) GTEST_SKIP() << "this CPU has one instruction set";
  const auto best = hwy::GetChosenTarget().GetIndex();
  choose("scalar");
  const auto scalar = hwy::GetChosenTarget().GetIndex();
  EXPECT_NE(scalar, best);
  EXPECT_EQ(simd_name(), "scalar");
  EXPECT_EQ(hwy::GetChosenTarget().GetIndex(), scalar);
}

TEST_F(Simd, ANameThatDoesNotExistIsRefusedWithThoseThatDo) {
  try {
    choose("avx3");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), HasSubstr("RWKVX_SIMD: expected one of "));
    EXPECT_THAT(error.what(), HasSubstr("got \"avx3\""));
  }
}

}  // namespace
}  // namespace rwkvx

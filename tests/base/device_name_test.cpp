#include "rwkvx/base/device_name.h"

#include <gtest/gtest.h>

#include "rwkvx/base/error.h"

namespace rwkvx {
namespace {

TEST(DeviceName, KnowsAutoCpuAndCuda) {
  EXPECT_EQ(parse_device_name("auto", "here").kind, DeviceName::Kind::kAuto);
  EXPECT_EQ(parse_device_name("cpu", "here").kind, DeviceName::Kind::kCpu);
  EXPECT_EQ(parse_device_name("cuda", "here").index, 0);
  EXPECT_EQ(parse_device_name("cuda:12", "here").kind, DeviceName::Kind::kCuda);
  EXPECT_EQ(parse_device_name("cuda:12", "here").index, 12);
}

TEST(DeviceName, RefusesOtherTexts) {
  for (const char* text : {"", "gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cuda:100", "cpu:0"})
    EXPECT_THROW(parse_device_name(text, "here"), ConfigError) << text;
}

}  // namespace
}  // namespace rwkvx

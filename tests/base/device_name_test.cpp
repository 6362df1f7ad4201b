#include "rwkvx/base/device_name.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "rwkvx/base/error.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

TEST(DeviceName, KnowsAutoCpuAndCuda) {
  EXPECT_EQ(parse_device_name("auto", "here").kind, "auto");
  EXPECT_EQ(parse_device_name("cpu", "here").kind, "cpu");
  EXPECT_EQ(parse_device_name("cuda", "here").index, 0);
  EXPECT_EQ(parse_device_name("cuda:12", "here").kind, "cuda");
  EXPECT_EQ(parse_device_name("cuda:12", "here").index, 12);
}

TEST(DeviceName, RefusesOtherTexts) {
  for (const char* text : {"", "CPU", "auto:1", "cuda:", "cuda:x", "cuda:-1", "cuda:100", "cpu:0"})
    EXPECT_THROW(parse_device_name(text, "here"), ConfigError) << text;
}

// Sets CUDA_VISIBLE_DEVICES for a test.
class VisibleDevices {
 public:
  explicit VisibleDevices(const char* value) {
    if (const char* before = std::getenv(kName)) before_ = before, was_set_ = true;
    value != nullptr ? ::setenv(kName, value, 1) : ::unsetenv(kName);
  }
  ~VisibleDevices() { was_set_ ? ::setenv(kName, before_.c_str(), 1) : ::unsetenv(kName); }

 private:
  static constexpr const char* kName = "CUDA_VISIBLE_DEVICES";
  std::string before_;
  bool was_set_ = false;
};

TEST(VisibleGpus, CountsThoseOfTheDriver) {
  const VisibleDevices unset(nullptr);
  const ScratchDirectory root;
  EXPECT_EQ(visible_gpus(root.path()), 0);
  std::filesystem::create_directories(root / "dev");
  for (const char* name : {"nvidiactl", "nvidia-uvm", "nvidia0", "nvidia1", "nvidia12", "null"})
    std::ofstream(root / "dev" / name) << "";
  EXPECT_EQ(visible_gpus(root.path()), 3);
  std::filesystem::create_directories(root / "proc/driver/nvidia/gpus/0000:01:00.0");
  EXPECT_EQ(visible_gpus(root.path()), 1);
}

TEST(VisibleGpus, SeesTheOneOfWindowsLinux) {
  const VisibleDevices unset(nullptr);
  const ScratchDirectory root;
  std::filesystem::create_directories(root / "dev");
  std::filesystem::create_directories(root / "usr/lib/wsl/lib");
  std::ofstream(root / "dev/dxg") << "";
  EXPECT_EQ(visible_gpus(root.path()), 0);
  std::ofstream(root / "usr/lib/wsl/lib/libcuda.so.1") << "";
  EXPECT_EQ(visible_gpus(root.path()), 1);
}

TEST(VisibleGpus, AreHiddenByTheEnvironment) {
  const ScratchDirectory root;
  std::filesystem::create_directories(root / "proc/driver/nvidia/gpus/0000:01:00.0");
  for (const char* value : {"", "-1", "NoDevFiles"})
    EXPECT_EQ((VisibleDevices(value), visible_gpus(root.path())), 0) << value;
  for (const char* value : {"0", "GPU-1234"})
    EXPECT_EQ((VisibleDevices(value), visible_gpus(root.path())), 1) << value;
}

TEST(DeviceNote, NamesTheChoiceWhereThereIsOne) {
  const DeviceName automatic{"auto", 0}, cpu{"cpu", 0};
  EXPECT_EQ(device_note(automatic, "cpu", 0, "NVIDIA GPU", "why").text, "");
  EXPECT_EQ(device_note(cpu, "cpu", 1, "NVIDIA GPU", "why").text, "device: cpu");
  EXPECT_EQ(device_note(automatic, "cuda:0", 1, "NVIDIA GPU", "").text, "device: cuda:0");
  EXPECT_FALSE(device_note(automatic, "cuda:0", 1, "NVIDIA GPU", "").warning);
}

TEST(DeviceName, GeneratingTakesAGpuWhereItIsAskedFor) {
  EXPECT_EQ(device_for_generating("auto", 0), "cpu");
  EXPECT_EQ(device_for_generating("auto", 2), "cpu");
  EXPECT_EQ(device_for_generating("cuda:1", 2), "cuda:1");
}

TEST(DeviceNote, WarnsOfAGpuThatIsLeftIdle) {
  const DeviceName automatic{"auto", 0};
  const auto one = device_note(automatic, "cpu", 1, "NVIDIA GPU", "the driver is too old");
  EXPECT_TRUE(one.warning);
  EXPECT_EQ(one.text, "device: cpu, although this machine has 1 NVIDIA GPU: the driver is too old");
  EXPECT_NE(device_note(automatic, "cpu", 8, "NVIDIA GPU", "why").text.find("8 NVIDIA GPUs"),
            std::string::npos);
}

}  // namespace
}  // namespace rwkvx

// The texts that name where a model computes: "auto", "cpu", "cuda", "cuda:N".
#pragma once

#include <filesystem>
#include <string>

namespace rwkvx {

struct DeviceName {
  std::string kind = "auto";  // or "cpu", or the name of a kind of device
  int index = 0;              // N of cuda:N
  bool is_auto() const { return kind == "auto"; }
  bool is_cpu() const { return kind == "cpu"; }
};

// Throws ConfigError at `where` for a text of another form. Whether there is such a kind is not
// looked at: see modules/device.h.
DeviceName parse_device_name(const std::string& text, const std::string& where);

// NVIDIA GPUs that this machine shows, whether this program can use them or not: those of the
// driver, less what CUDA_VISIBLE_DEVICES hides. `root` is where /proc and /dev are looked for.
int visible_gpus(const std::filesystem::path& root = "/");

// What a setting means for generating text: "auto" is the CPU there, as nobody has measured yet
// where a GPU wins. Says so where there is one.
std::string device_for_generating(const std::string& setting, int visible = visible_gpus());

// What a command says about its choice of a device: nothing where there is no GPU to choose, a
// warning with its reason where "auto" left a GPU idle.
struct DeviceNote {
  std::string text;
  bool warning = false;
};
// `visible` devices are there, each a `what` ("NVIDIA GPU").
DeviceNote device_note(const DeviceName& setting, const std::string& chosen, int visible,
                       const std::string& what, const std::string& reason);

}  // namespace rwkvx

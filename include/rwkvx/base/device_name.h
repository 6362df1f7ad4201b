// The texts that name where a model computes: "auto", "cpu", "cuda", "cuda:N".
#pragma once

#include <string>

namespace rwkvx {

struct DeviceName {
  enum class Kind { kAuto, kCpu, kCuda } kind = Kind::kAuto;
  int index = 0;  // N of cuda:N
};

// Throws ConfigError at `where` for any other text.
DeviceName parse_device_name(const std::string& text, const std::string& where);

}  // namespace rwkvx

#include "rwkvx/base/device_name.h"

#include "rwkvx/base/error.h"

namespace rwkvx {

DeviceName parse_device_name(const std::string& text, const std::string& where) {
  if (text == "auto") return {DeviceName::Kind::kAuto, 0};
  if (text == "cpu") return {DeviceName::Kind::kCpu, 0};
  if (text == "cuda") return {DeviceName::Kind::kCuda, 0};
  const std::string digits = text.starts_with("cuda:") ? text.substr(5) : "";
  if (digits.empty() || digits.size() > 2 ||
      digits.find_first_not_of("0123456789") != std::string::npos)
    throw ConfigError(where, "wanted auto, cpu or cuda:N, found \"" + text + "\"");
  return {DeviceName::Kind::kCuda, std::stoi(digits)};
}

}  // namespace rwkvx

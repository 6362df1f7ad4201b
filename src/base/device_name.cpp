#include "rwkvx/base/device_name.h"

#include <cstdlib>
#include <string_view>

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

int visible_gpus(const std::filesystem::path& root) {
  const char* chosen = std::getenv("CUDA_VISIBLE_DEVICES");
  // An empty list, or one that begins with no GPU's number, shows none.
  if (chosen != nullptr && (*chosen == '\0' || std::string_view(chosen).starts_with("-") ||
                            std::string_view(chosen) == "NoDevFiles"))
    return 0;
  std::error_code ignored;
  int count = 0;
  namespace fs = std::filesystem;
  for (const auto& entry : fs::directory_iterator(root / "proc/driver/nvidia/gpus", ignored))
    count += static_cast<int>(!entry.path().empty());
  if (count > 0) return count;
  for (const auto& entry : fs::directory_iterator(root / "dev", ignored)) {
    const std::string name = entry.path().filename().string();
    count += static_cast<int>(name.size() > 6 && name.starts_with("nvidia") &&
                              name.find_first_not_of("0123456789", 6) == std::string::npos);
  }
  if (count == 0 && fs::exists(root / "dev/dxg", ignored) &&
      fs::exists(root / "usr/lib/wsl/lib/libcuda.so.1", ignored))
    return 1;  // Windows' Linux shows its GPU by another device
  return count;
}

DeviceNote device_note(const DeviceName& setting, const std::string& chosen, int visible,
                       const std::string& reason) {
  if (chosen != "cpu") return {"device: " + chosen};
  if (visible == 0) return {};
  if (setting.kind != DeviceName::Kind::kAuto) return {"device: cpu"};
  return {"device: cpu, although this machine has " +
              (visible == 1 ? "an NVIDIA GPU" : std::to_string(visible) + " NVIDIA GPUs") + ": " +
              reason,
          true};
}

}  // namespace rwkvx

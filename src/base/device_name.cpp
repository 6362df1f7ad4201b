#include "rwkvx/base/device_name.h"

#include <cstdlib>
#include <string_view>

#include "rwkvx/base/error.h"
#include "rwkvx/base/log.h"

namespace rwkvx {

DeviceName parse_device_name(const std::string& text, const std::string& where) {
  const auto colon = text.find(':');
  const DeviceName name{text.substr(0, colon), 0};
  const std::string digits = colon == std::string::npos ? "0" : text.substr(colon + 1);
  const bool letters = !name.kind.empty() && name.kind.find_first_not_of(
                                                 "abcdefghijklmnopqrstuvwxyz") == std::string::npos;
  const bool number = !digits.empty() && digits.size() <= 2 &&
                      digits.find_first_not_of("0123456789") == std::string::npos;
  if (!letters || !number || (colon != std::string::npos && (name.is_auto() || name.is_cpu())))
    throw ConfigError(where, "expected auto, cpu or a device such as cuda:0, got \"" + text + "\"");
  return {name.kind, std::stoi(digits)};
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

std::string device_for_generating(const std::string& setting, int visible) {
  if (setting != "auto") return setting;
  if (visible > 0) log_info("device: cpu; --device cuda takes the GPU");
  return "cpu";
}

DeviceNote device_note(const DeviceName& setting, const std::string& chosen, int visible,
                       const std::string& what, const std::string& reason) {
  if (chosen != "cpu") return {"device: " + chosen};
  if (visible == 0) return {};
  if (!setting.is_auto()) return {"device: cpu"};
  return {"device: cpu, although this machine has " + std::to_string(visible) + " " + what +
              (visible == 1 ? "" : "s") + ": " + reason,
          true};
}

}  // namespace rwkvx

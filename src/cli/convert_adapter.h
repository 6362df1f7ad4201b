// `rwkvx convert` of an adapter.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "rwkvx/adapters/apply.h"
#include "rwkvx/convert/convert.h"

namespace rwkvx {

inline constexpr const char* kAdapterFormatNames[] = {"adapter", "rwkv-peft"};
// Whether --to names a format of adapters.
bool is_adapter_format(const std::string& name);
// The format that --to names, or OUT's ending where that is empty. Throws ConfigError.
std::string adapter_format(const std::string& name, const std::filesystem::path& out);

// Writes the adapter of one file in another format. `base` names the model that it is for; empty:
// that which the file says. Throws ConfigError, CheckpointError, FileError.
ConvertResult convert_adapter(const std::filesystem::path& in, const std::filesystem::path& out,
                              const std::string& format, const std::string& base,
                              std::optional<double> alpha, bool overwrite);

}  // namespace rwkvx

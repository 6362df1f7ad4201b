#include "cli/convert_adapter.h"

#include <algorithm>

#include "rwkvx/base/error.h"
#include "rwkvx/base/output_file.h"

namespace rwkvx {
namespace fs = std::filesystem;

bool is_adapter_format(const std::string& name) {
  return std::ranges::find(kAdapterFormatNames, name) != std::end(kAdapterFormatNames);
}

std::string adapter_format(const std::string& name, const fs::path& out) {
  const auto ending = out.extension();
  const std::string by_name = ending == ".safetensors"              ? "adapter"
                              : ending == ".pth" || ending == ".pt" ? "rwkv-peft"
                                                                    : "";
  if (name.empty() && by_name.empty())
    throw ConfigError("OUT",
                      "expected a name that ends in .safetensors (ours) or .pth (RWKV-PEFT) "
                      "for an adapter, got " +
                          out.string());
  if (!name.empty() && !is_adapter_format(name))
    throw ConfigError("--to", "expected adapter or rwkv-peft for an adapter, got " + name);
  if (!name.empty() && !by_name.empty() && name != by_name)
    throw ConfigError("--to", "is " + name + ", but " + out.string() + " is the name of " +
                                  by_name + "; choose another name");
  return name.empty() ? by_name : name;
}

ConvertResult convert_adapter(const fs::path& in, const fs::path& out, const std::string& format,
                              const std::string& base, std::optional<double> alpha,
                              bool overwrite) {
  refuse_same_file("OUT", out, {{"IN", in}, {"--base", base}});
  std::error_code error;
  if (fs::exists(out, error) && !overwrite)
    throw FileError(out.string(), "already exists; replace it with --overwrite");
  auto adapter = read_adapter(in, alpha);
  if (alpha && adapter.stores_alpha)
    throw ConfigError("--adapter-alpha",
                      "changes nothing: " + in.string() + " is no LoRA that does not hold its own");
  if (!base.empty()) {
    const auto model = open_model(base);
    const auto hash = model.hash();
    if (!adapter.base_hash.empty() && adapter.base_hash != hash)
      throw ConfigError("--base", base + " has the weights " + hash.substr(0, 8) + "..., but " +
                                      in.string() + " is for " + adapter.base_hash.substr(0, 8) +
                                      "...");
    check_adapter(adapter, model.config, in.string());
    adapter.base_hash = hash;
  }
  ConvertResult result;
  if (!adapter.stores_alpha && !alpha) result.notes.push_back(default_alpha_notice(adapter));
  if (format == "adapter") {
    if (adapter.base_hash.empty())
      result.notes.push_back("the model that it is for is not recorded; name it with --base");
    write_adapter(out, adapter);
  } else {
    if (adapter.kind == AdapterKind::kLora && adapter.stores_alpha)
      result.notes.push_back("the format has no place for alpha: give " +
                             alpha_text(adapter.alpha) +
                             " as --lora_alpha of RWKV-PEFT's merge.py, or as --adapter-alpha");
    write_peft(out, adapter);
  }
  result.tensors = static_cast<std::int64_t>(adapter.tensors.size());
  result.bytes = static_cast<std::int64_t>(fs::file_size(out));
  return result;
}

}  // namespace rwkvx

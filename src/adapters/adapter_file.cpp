#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "adapters/lora.h"
#include "adapters/peft.h"
#include "rwkvx/adapters/adapter.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/field.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/checkpoint/checkpoint_directory.h"
#include "rwkvx/formats/safetensors.h"

namespace rwkvx {
namespace fs = std::filesystem;
namespace {

bool is_ours(const TensorFile& file) {
  const auto found = file.metadata().find("format");
  return found != file.metadata().end() && found->second.starts_with("rwkvx adapter");
}

std::string entry(const TensorFile& file, const std::string& name) {
  const auto found = file.metadata().find(name);
  return found == file.metadata().end() ? "" : found->second;
}

template <class Number>
Number number(const TensorFile& file, const std::string& name) {
  const auto text = entry(file, name);
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    throw CheckpointError(file.path().string(), "expected a number as \"" + name + "\", got \"" +
                                                    text.substr(0, 60) + "\"");
  return value;
}

Adapter read_ours(const TensorFile& file) {
  const auto where = file.path().string();
  if (entry(file, "format") != kAdapterFormat)
    throw CheckpointError(
        where, std::string("expected an adapter of the format \"") + kAdapterFormat + "\", got \"" +
                   entry(file, "format").substr(0, 60) + "\"; another version of rwkvx wrote it");
  if (!file.has_checksums()) throw CheckpointError(where, "has lost its checksums");
  file.verify();
  Adapter adapter;
  try {
    adapter.kind = read_enum<AdapterKind>(entry(file, "kind"), where + ": kind");
    if (adapter.kind == AdapterKind::kShift)
      adapter.shift =
          config_from_json<ShiftConfig>(parse_foreign_json(entry(file, "shift"), where + ": shift"),
                                        where + ": shift", OldNames::kSilent);
  } catch (const ConfigError& error) {
    throw CheckpointError("", error.what());
  } catch (const DataError& error) {
    throw CheckpointError("", error.what());
  }
  adapter.base_hash = entry(file, "base");
  if (adapter.kind == AdapterKind::kLora) {
    adapter.rank = number<std::int64_t>(file, "rank");
    adapter.alpha = number<double>(file, "alpha");
  }
  for (const auto& tensor : file.tensors()) {
    if (tensor.dtype != DType::kF32)
      throw CheckpointError(where + ": " + tensor.name,
                            "expected F32, got " + std::string(dtype_name(tensor.dtype)));
    adapter.tensors.push_back({tensor.name, tensor.shape, to_float32(tensor)});
  }
  return adapter;
}

TensorFile open_adapter(const fs::path& given) {
  const auto path = find_adapter(given);
  auto file = open_tensor_file(path);
  if (!is_ours(file) && !is_peft(file))
    throw CheckpointError(path.string(),
                          "is not an adapter: expected one of rwkvx's (.safetensors) or of "
                          "RWKV-PEFT (a .pth with lora_A and lora_B, or att.time_state)");
  return file;
}

}  // namespace

fs::path find_adapter(const fs::path& path) {
  std::error_code error;
  const bool folder = fs::is_directory(path, error);
  if (folder && fs::exists(path / kAdapterFile, error)) return path / kAdapterFile;
  if (!folder && fs::exists(path, error)) return path;
  fs::path found;
  try {
    found = resolve_checkpoint(path) / kAdapterFile;
  } catch (const CheckpointError&) {  // said below
  }
  if (found.empty() || !fs::exists(found, error))
    throw CheckpointError(path.string(), folder ? "expected an adapter, got a directory without " +
                                                      std::string(kAdapterFile)
                                                : "there is no such adapter");
  return found;
}

std::string default_alpha_notice(const Adapter& adapter) {
  return "the file holds no alpha; " + alpha_text(adapter.alpha) +
         " is taken, RWKV-PEFT's default for training; --adapter-alpha gives another";
}

std::string alpha_text(double alpha) {
  auto text = nlohmann::json(alpha).dump();
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text;
}

bool is_adapter(const fs::path& path) {
  const auto file = open_tensor_file(path);
  return is_ours(file) || is_peft(file);
}

bool looks_like_adapter(const fs::path& path) {
  std::error_code error;
  const bool folder = fs::is_directory(path, error);
  if (!folder && !fs::is_regular_file(path, error)) return false;
  if (folder && fs::exists(path / kWeightsFile, error)) return false;
  const auto file = folder ? path / kAdapterFile : path;
  try {
    return fs::exists(file, error) && is_adapter(file);
  } catch (const Error&) {
    return false;  // whoever opens it says what is wrong with it
  }
}

Adapter read_adapter(const fs::path& path, std::optional<double> alpha) {
  const auto file = open_adapter(path);
  auto adapter = is_ours(file) ? read_ours(file) : read_peft(file, alpha);
  check_adapter(adapter, file.path().string());
  return adapter;
}

void write_adapter(const fs::path& path, const Adapter& adapter) {
  check_adapter(adapter, path.string());
  std::vector<TensorView> views;
  for (const auto& tensor : adapter.tensors)
    views.push_back(
        {tensor.name, DType::kF32, tensor.shape, std::as_bytes(std::span(tensor.values))});
  std::map<std::string, std::string> metadata{
      {"format", kAdapterFormat}, {"kind", enum_name(adapter.kind)}, {"base", adapter.base_hash}};
  if (adapter.kind == AdapterKind::kLora) {
    metadata["rank"] = std::to_string(adapter.rank);
    metadata["alpha"] = alpha_text(adapter.alpha);
  }
  if (adapter.kind == AdapterKind::kShift) metadata["shift"] = config_to_json(adapter.shift).dump();
  write_safetensors(path, views, metadata);
}

nlohmann::ordered_json describe_adapter(const fs::path& path) {
  const auto file = open_adapter(path);
  const auto adapter = read_adapter(path);
  nlohmann::ordered_json info = {
      {"path", file.path().string()},
      {"adapter", enum_name(adapter.kind)},
      {"format", is_ours(file) ? kAdapterFormat : "RWKV-PEFT"},
      {"parameters", adapter.parameters()},
      {"size", bytes_text(static_cast<double>(file.stored_bytes()))},
      {"hash", adapter.hash()},
      {"base", adapter.base_hash.empty() ? "not recorded" : adapter.base_hash}};
  std::int64_t matrices = 0, others = 0;
  std::set<std::string> names;
  for (const auto& tensor : adapter.tensors) {
    const auto half = lora_half(tensor.name);
    if (half && half->second) continue;
    ++(half ? matrices : others);
    auto name = half ? half->stem : tensor.name;
    // Those of all blocks count once: "blocks.*.att.key".
    if (const auto dot = name.find('.', 7); name.starts_with("blocks.") && dot != name.npos)
      name = "blocks.*" + name.substr(dot);
    names.insert(name);
  }
  if (adapter.kind == AdapterKind::kLora) {
    info["rank"] = adapter.rank;
    if (is_ours(file))
      info["alpha"] = adapter.alpha;
    else
      info["alpha"] = "not in the file; " + alpha_text(kPeftAlpha) + " unless --adapter-alpha";
    info["matrices"] = matrices;
    if (others > 0) info["whole tensors"] = others;
  } else {
    info["tensors"] = others;
  }
  info["of"] = names;
  if (adapter.kind == AdapterKind::kShift) info["shift"] = config_to_json(adapter.shift);
  return info;
}

}  // namespace rwkvx

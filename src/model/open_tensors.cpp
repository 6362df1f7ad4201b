#include "rwkvx/model/open_tensors.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <unordered_set>
#include <utility>

#include "rwkvx/base/error.h"
#include "rwkvx/model/tensor_messages.h"

namespace rwkvx {
namespace {

// "blocks.12.att." or "blocks.12.ffn." at the beginning.
bool names_block(std::string_view name) {
  constexpr std::string_view kBlocks = "blocks.";
  if (!name.starts_with(kBlocks)) return false;
  name.remove_prefix(kBlocks.size());
  const auto dot = name.find('.');
  return dot != 0 && dot != std::string_view::npos &&
         std::all_of(name.begin(), name.begin() + static_cast<std::ptrdiff_t>(dot),
                     [](unsigned char c) { return std::isdigit(c) != 0; }) &&
         (name.substr(dot).starts_with(".att.") || name.substr(dot).starts_with(".ffn."));
}

}  // namespace

TensorFile open_tensors(const std::filesystem::path& path) {
  const auto file = open_tensor_file(path);
  auto tensors = file.tensors();
  std::unordered_set<std::string> names;
  for (auto& tensor : tensors) {
    const auto found = tensor.name;
    tensor.name = official_name(found);
    if (!names.insert(tensor.name).second)
      throw CheckpointError(path.string() + ": " + found,
                            "is another tensor by the name of " + tensor.name);
  }
  // ChatRWKV stores weights for one device transposed, divided and with the decay already
  // exponentiated; nothing else in the file tells how far that went.
  for (const auto* mark : {"_rescale_layer", "_strategy", "_version"})
    if (file.metadata().contains(mark) || names.contains(mark))
      throw CheckpointError(path.string() + ": " + mark,
                            "the weights were converted for one device by ChatRWKV; wanted the "
                            "original .pth that they were converted from");
  const auto version = rwkv_version(tensors);
  const auto is_lora = [](const TensorView& tensor) {
    return tensor.name.find("lora") != std::string::npos;
  };
  if (!tensors.empty() && std::all_of(tensors.begin(), tensors.end(), is_lora))
    throw CheckpointError(path.string(),
                          "holds LoRA matrices only; wanted the whole model, with them merged into "
                          "its weights");
  if (version.empty())
    throw CheckpointError(
        path.string(),
        "wanted an RWKV-4 model with tensors such as blocks.0.att.key.weight, found " +
            (tensors.empty() ? "no tensors"
                             : std::to_string(tensors.size()) + " others, first " +
                                   tensors.front().name.substr(0, 200)));
  if (version != "4")
    throw CheckpointError(path.string(), "wanted an RWKV-4 model, found RWKV-" + version);
  return {path, std::move(tensors), file.metadata(), std::make_shared<TensorFile>(file)};
}

std::string missing_tensor(std::string_view name, std::span<const std::int64_t> shape) {
  std::string reason = "is missing, wanted shape " + shape_text(shape);
  if (name == "head.weight")
    reason +=
        "; where a model ties its head to the embedding, save a copy of emb.weight as head.weight";
  else if (name.find(".ln0.") != name.npos)
    reason += "; an RWKV-4 model begins with this layer norm";
  else if (name.starts_with("blocks."))
    reason += "; the file does not hold all of a model";
  return reason;
}

std::string unknown_tensor(std::string_view name) {
  if (name.find("lora") != name.npos)
    return "is a LoRA matrix beside the weights; merge it into them (W + B A scaled) before saving";
  return "is not part of the model that the configuration describes";
}

std::string official_name(std::string_view name) {
  // What wrappers put before every name (DeepSpeed, DistributedDataParallel, torch.compile), in any
  // order.
  constexpr std::array<std::string_view, 4> kPrefixes{"_forward_module.", "module.", "_orig_mod.",
                                                      "rwkv."};
  for (bool found = true; found;) {
    found = false;
    for (const auto prefix : kPrefixes)
      if (name.starts_with(prefix)) {
        name.remove_prefix(prefix.size());
        found = true;
      }
  }
  constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kParts{{
      {"embeddings", "emb"},
      {"pre_ln", "ln0"},
      {"attention", "att"},
      {"feed_forward", "ffn"},
      {"time_mix_key", "time_mix_k"},
      {"time_mix_value", "time_mix_v"},
      {"time_mix_receptance", "time_mix_r"},
  }};
  if (!name.starts_with("blocks.") && !name.starts_with("embeddings.")) return std::string(name);
  std::string official;
  for (std::size_t begin = 0; begin <= name.size();) {
    const auto end = std::min(name.find('.', begin), name.size());
    auto part = name.substr(begin, end - begin);
    for (const auto& [converted, own] : kParts)
      if (part == converted) {
        part = own;
        break;
      }
    if (begin > 0) official += '.';
    official += part;
    begin = end + 1;
  }
  return official;
}

std::string rwkv_version(std::span<const TensorView> tensors) {
  const auto any = [&](std::string_view ending) {
    return std::any_of(tensors.begin(), tensors.end(), [&](const TensorView& tensor) {
      return names_block(tensor.name) && tensor.name.ends_with(ending);
    });
  };
  if (!any("")) return "";
  if (any(".att.r_k")) return "7";
  if (any(".att.time_maa_x") || any(".att.time_maa_w1")) return "6";
  if (any(".att.ln_x.weight")) return any(".att.gate.weight") ? "5.2" : "5";
  return "4";
}

}  // namespace rwkvx

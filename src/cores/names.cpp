#include "rwkvx/cores/names.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "rwkvx/base/error.h"

namespace rwkvx {
namespace {

constexpr std::string_view kBlocks = "blocks.";

// "blocks.12.att." or "blocks.12.ffn." at the beginning.
bool names_block(std::string_view name) {
  if (!name.starts_with(kBlocks)) return false;
  name.remove_prefix(kBlocks.size());
  const auto dot = name.find('.');
  return dot != 0 && dot != std::string_view::npos &&
         std::all_of(name.begin(), name.begin() + static_cast<std::ptrdiff_t>(dot),
                     [](unsigned char c) { return std::isdigit(c) != 0; }) &&
         (name.substr(dot).starts_with(".att.") || name.substr(dot).starts_with(".ffn."));
}

// The highest number of a block, so that one that is missing below it is named.
std::int64_t highest_block(const TensorFile& file) {
  std::int64_t highest = 0;
  for (const auto& tensor : file.tensors()) {
    const std::string_view name = tensor.name;
    if (!name.starts_with(kBlocks)) continue;
    std::int64_t number = 0;
    const auto [end, error] =
        std::from_chars(name.data() + kBlocks.size(), name.data() + name.size(), number);
    if (error != std::errc() || end == name.data() + name.size() || *end != '.') continue;
    if (number < 0 || number >= static_cast<std::int64_t>(file.tensors().size()))
      throw CheckpointError(file.path().string() + ": " + tensor.name,
                            "is of a block whose number is above that of all tensors");
    highest = std::max(highest, number);
  }
  return highest;
}

}  // namespace

const Core* recognize(std::span<const TensorView> tensors) {
  for (const auto* core : all_cores())
    if (core->recognizes(tensors)) return core;
  return nullptr;
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

TensorFile with_official_names(const TensorFile& file) {
  const auto where = file.path().string();
  auto renamed = with_layout_of_official(file);
  const auto& tensors = renamed.tensors();
  // ChatRWKV stores weights for one device transposed, divided and with the decay already
  // exponentiated; nothing else in the file tells how far that went.
  for (const auto* mark : {"_rescale_layer", "_strategy", "_version"})
    if (file.metadata().contains(mark) || file.find(mark) != nullptr)
      throw CheckpointError(where + ": " + mark,
                            "the weights were converted for one device by ChatRWKV; expected the "
                            "original .pth that they were converted from");
  const auto is_beside = [](const TensorView& tensor) {
    return tensor.name.find("lora") != std::string::npos || tensor.name.ends_with(".time_state");
  };
  // What rwkvx writes beside a model says so; of other tools the names show it.
  const auto format = file.metadata().find("format");
  if ((format != file.metadata().end() && format->second.starts_with("rwkvx adapter")) ||
      (!tensors.empty() && std::all_of(tensors.begin(), tensors.end(), is_beside)))
    throw CheckpointError(where,
                          "is an adapter, expected the whole model that it is for; give that "
                          "one, and this file with --adapter");
  if (recognize(tensors) == nullptr) {
    std::string known;
    for (const auto* core : all_cores())
      known += (known.empty() ? "" : " or ") + std::string(core->help);
    const auto version = rwkv_version(tensors);
    if (!version.empty())
      throw CheckpointError(where, "expected an " + known + " model, got RWKV-" + version);
    throw CheckpointError(
        where, "expected an " + known +
                   " model with tensors such as blocks.0.att.key.weight, got " +
                   (tensors.empty() ? "no tensors"
                                    : std::to_string(tensors.size()) + " others, first " +
                                          tensors.front().name.substr(0, 200)));
  }
  return renamed;
}

TensorFile open_tensors(const std::filesystem::path& path) {
  return with_official_names(open_tensor_file(path));
}

ModelConfig infer_config(const TensorFile& file) {
  const auto* core = recognize(file.tensors());
  if (core == nullptr)
    throw CheckpointError(file.path().string(), "holds no model of a known core");
  const auto& embedding = file.at("emb.weight");
  if (embedding.shape.size() != 2)
    throw CheckpointError(file.path().string() + ": emb.weight",
                          "expected 2 dimensions, got shape " + shape_text(embedding.shape));
  ModelConfig config;
  config.core = core->name;
  config.vocab_size = embedding.shape[0];
  config.n_embd = embedding.shape[1];
  config.n_layer = highest_block(file) + 1;
  config.shift.kind = ShiftKind::kNone;
  core->infer(file, config);
  return config;
}

bool is_unused(std::string_view name) {
  return std::ranges::any_of(
      all_cores(), [&](const Core* core) { return core->unused != nullptr && core->unused(name); });
}

std::string missing_tensor(std::string_view name, std::span<const std::int64_t> shape) {
  std::string reason = "is missing, expected shape " + shape_text(shape);
  if (name == "head.weight")
    reason +=
        "; where a model ties its head to the embedding, save a copy of emb.weight as head.weight";
  else if (name.find(".ln0.") != name.npos)
    reason += "; an RWKV model begins with this layer norm";
  else if (name.starts_with(kBlocks))
    reason += "; the file does not hold all of a model";
  return reason;
}

std::string unknown_tensor(std::string_view name) {
  if (name.find("lora") != name.npos)
    return "is a LoRA matrix beside the weights; merge it into them (W + B A scaled) before saving";
  return "is not part of the model that the configuration describes";
}

}  // namespace rwkvx

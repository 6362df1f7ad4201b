#include "rwkvx/train/init_from.h"

#include "rwkvx/base/error.h"
#include "rwkvx/base/field.h"
#include "rwkvx/cores/core.h"

namespace rwkvx {
namespace {

// The model's settings; those that were given must be the same. The shift may be new.
ModelConfig sizes_of(const ModelConfig& given, const ModelConfig& model, const std::string& path) {
  const auto wanted = config_to_json(given), plain = config_to_json(ModelConfig()),
             found = config_to_json(model);
  for (const auto& [name, value] : wanted.items()) {
    if (name == "shift" || (plain.contains(name) && value == plain[name])) continue;
    if (!found.contains(name) || found[name] != value)
      throw ConfigError("model." + name, "is " + value.dump() + ", but train.init_from, " + path +
                                             ", has " +
                                             (found.contains(name) ? found[name].dump() : "none") +
                                             "; leave it out to take the model's");
  }
  auto config = model;
  if (!model.shift.enabled()) config.shift = given.shift;
  config.check("model");
  check_model(config, "model");
  return config;
}

}  // namespace

InitFrom open_init_from(const TrainConfig& given) {
  InitFrom from{given, {}, nullptr};
  const auto& path = given.train.init_from;
  if (path.empty()) return from;
  from.source = open_model(path);
  const auto& source = *from.source;
  from.config.model = sizes_of(given.model, source.config, path);
  if (given.tokenizer.path.empty()) {
    const bool bytes = given.tokenizer.kind == TokenizerKind::kByte;
    from.tokenizer = open_tokenizer(source, bytes ? "byte" : "", "tokenizer.path");
    from.config.tokenizer.kind =
        read_enum<TokenizerKind>(std::string(from.tokenizer->kind()), "tokenizer.kind");
  }
  return from;
}

}  // namespace rwkvx

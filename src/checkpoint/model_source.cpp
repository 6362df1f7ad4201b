#include "rwkvx/checkpoint/model_source.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <utility>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/version.h"
#include "rwkvx/formats/gguf.h"
#include "rwkvx/formats/safetensors.h"

namespace rwkvx {
namespace fs = std::filesystem;
namespace {

constexpr char kBinFile[] = "pytorch_model.bin";
constexpr std::string_view kIndexEnding = ".index.json";
constexpr std::string_view kWeightsEndings[] = {".pth", ".pt", ".bin", ".safetensors", ".gguf"};
constexpr double kNormEpsilon = 1e-5;
constexpr std::int64_t kUsualHead = 64;

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

// The files of a directory for which `wanted` holds, sorted.
template <class Wanted>
std::vector<fs::path> files_in(const fs::path& directory, const Wanted& wanted) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error))
    if (wanted(it->path().filename().string()) && is_file(it->path())) files.push_back(it->path());
  std::sort(files.begin(), files.end());
  return files;
}

// What lies in a directory and can only be the tokenizer of the weights in it; empty where nothing
// does, or more than one thing.
fs::path find_tokenizer(const fs::path& directory) {
  if (is_file(directory / kTokenizerFolder / "tokenizer.json")) return directory / kTokenizerFolder;
  if (is_file(directory / "tokenizer.json")) return directory / "tokenizer.json";
  const auto vocabularies = files_in(directory, [](const std::string& name) {
    return name.starts_with("rwkv_vocab") && name.ends_with(".txt");
  });
  if (vocabularies.size() == 1) return vocabularies[0];
  const auto models =
      files_in(directory, [](const std::string& name) { return name.ends_with(".model"); });
  return vocabularies.empty() && models.size() == 1 ? models[0] : fs::path();
}

fs::path directory_of(const fs::path& file) {
  return file.has_parent_path() ? file.parent_path() : fs::path(".");
}

// The files that an index of shards names; it lies beside them.
std::vector<fs::path> shards_of(const fs::path& index) {
  const auto where = index.string();
  const auto json = parse_foreign_json(read_file(index), where);
  std::set<std::string> names;
  const auto wrong = [&](const std::string& what) {
    throw CheckpointError(where, what + ", expected \"weight_map\" from tensors to files");
  };
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object())
    wrong("is not the index of a sharded model");
  for (const auto& [tensor, file] : json["weight_map"].items()) {
    if (!file.is_string()) wrong("names " + json_shown(file) + " for a file");
    const auto name = file.template get<std::string>();
    if (name.empty() || fs::path(name).filename() != name || name == "." || name == "..")
      wrong("names a file in another directory, " + json_shown(file));
    names.insert(name);
  }
  if (names.empty()) wrong("names no files");
  std::vector<fs::path> files;
  for (const auto& name : names) files.push_back(directory_of(index) / name);
  return files;
}

TensorFile open_files(const fs::path& path, const std::vector<fs::path>& files) {
  std::vector<TensorFile> opened;
  for (const auto& file : files) opened.push_back(open_tensor_file(file));
  return opened.size() == 1 ? opened[0] : merged(path, opened);
}

// A model whose head is its embedding.
class Tied : public TensorFile::Contents {
 public:
  explicit Tied(const TensorFile& file) : base_(file) {
    path = file.path();
    tensors = file.tensors();
    metadata = file.metadata();
    stored_bytes = file.stored_bytes();
    auto head = file.at("emb.weight");
    head.name = "head.weight";
    tensors.push_back(std::move(head));
  }

 private:
  TensorFile base_;
};

// What the config of the transformers library says against reading its model as RWKV.
void check_config(const nlohmann::json& config, const std::string& where, const ModelConfig& model,
                  const TensorFile& file) {
  const auto number = [&](const char* key) -> std::optional<double> {
    if (!config.contains(key) || !config[key].is_number()) return std::nullopt;
    return config[key].get<double>();
  };
  for (const auto* key : {"norm_eps", "layer_norm_epsilon"})
    if (const auto eps = number(key); eps && std::fabs(*eps - kNormEpsilon) > 1e-9)
      throw CheckpointError(
          where + ": " + key,
          "expected 1e-5, which RWKV models are computed with, got " + json_shown(config[key]));
  if (config.contains("attn") && !config["attn"].is_null())
    throw CheckpointError(where + ": attn",
                          "describes a model with attention layers, which is not read");
  const std::pair<const char*, std::int64_t> sizes[] = {{"vocab_size", model.vocab_size},
                                                        {"hidden_size", model.n_embd},
                                                        {"num_hidden_layers", model.n_layer}};
  for (const auto& [key, size] : sizes)
    if (const auto value = number(key); value && *value != static_cast<double>(size))
      throw CheckpointError(
          where + ": " + key,
          "is " + json_shown(config[key]) + ", but the weights have " + std::to_string(size));
  const auto* heads = file.find("blocks.0.att.r_k");
  if (heads != nullptr && heads->shape.size() == 2 && heads->shape[1] != kUsualHead)
    log_warning(where + ": heads of " + std::to_string(heads->shape[1]) +
                " channels; programs of the transformers library compute their group norm with an "
                "epsilon of head size times 1e-5, rwkvx and the official programs with 64e-5, so "
                "results differ slightly");
}

ModelSource open_hugging_face(const fs::path& directory, const nlohmann::json& config) {
  const auto where = (directory / kConfigFile).string();
  const auto& type = config["model_type"];
  if (type != "rwkv" && type != "rwkv7")
    throw CheckpointError(directory.string(),
                          "is a directory of the transformers library (model_type " +
                              json_shown(type) +
                              "); of its models, \"rwkv\" (RWKV-4) and \"rwkv7\" are read");
  std::vector<fs::path> files;
  for (const std::string name : {kWeightsFile, kBinFile}) {
    if (is_file(directory / name))
      files = {directory / name};
    else if (const auto index = directory / (name + std::string(kIndexEnding)); is_file(index))
      files = shards_of(index);
    if (!files.empty()) break;
  }
  if (files.empty())
    throw CheckpointError(directory.string(),
                          "is a directory of the transformers library without weights; expected " +
                              std::string(kWeightsFile) + ", its shards and their index, or " +
                              kBinFile);
  auto file = with_official_names(open_files(directory, files));
  if (file.find("head.weight") == nullptr && config.contains("tie_word_embeddings") &&
      config["tie_word_embeddings"] == true && file.find("emb.weight") != nullptr)
    file = TensorFile(std::make_shared<Tied>(file));
  auto model = infer_config(file);
  check_config(config, where, model, file);
  return {SourceKind::kHuggingFace,
          directory,
          files,
          std::move(file),
          std::move(model),
          find_tokenizer(directory),
          "",
          {},
          ""};
}

ModelSource open_weights(const fs::path& path) {
  const bool index = path.string().ends_with(kIndexEnding);
  auto files = index ? shards_of(path) : std::vector{path};
  auto file = with_official_names(open_files(path, files));
  auto config = infer_config(file);
  const bool own_tokenizer = file.metadata().contains(kGgufTokens);
  return {SourceKind::kWeights,
          path,
          std::move(files),
          std::move(file),
          std::move(config),
          own_tokenizer ? fs::path() : find_tokenizer(directory_of(path)),
          "",
          {},
          ""};
}

// The one file of weights in a directory that is nothing else; empty where there is none.
fs::path only_weights(const fs::path& directory) {
  const auto files = files_in(directory, [](const std::string& name) {
    return std::any_of(std::begin(kWeightsEndings), std::end(kWeightsEndings),
                       [&](const auto ending) { return name.ends_with(ending); });
  });
  if (files.size() < 2) return files.empty() ? fs::path() : files[0];
  const auto index =
      files_in(directory, [](const std::string& name) { return name.ends_with(kIndexEnding); });
  if (index.size() == 1) return index[0];
  throw CheckpointError(directory.string(), "holds " + std::to_string(files.size()) +
                                                " files of weights; name one of them, such as " +
                                                files[0].string());
}

bool holds_checkpoints(const fs::path& directory) {
  if (is_file(directory / kChecksumsFile)) return true;
  const auto inside = directory / kCheckpointsFolder;
  return !list_checkpoints(is_folder(inside) ? inside : directory).empty();
}

ModelSource open_trained(const fs::path& path, Verification verification) {
  // The tensors carry their own checksums, so that a damaged one is named.
  const auto directory = open_checkpoint(resolve_checkpoint(path), verification);
  auto config = read_checkpoint_config(directory.path);
  return {SourceKind::kCheckpoint,
          directory.path,
          {directory.weights()},
          open_tensors(directory.weights()),
          std::move(config.model),
          directory.tokenizer(),
          std::move(config.tokenizer_hash),
          std::move(config.document),
          directory.files.at(kWeightsFile).hash};
}

// The World vocabulary that a GGUF holds, as the lines of its file; the byte tokenizer where the
// texts are the bytes.
std::unique_ptr<Tokenizer> tokenizer_of_gguf(const TensorFile& file) {
  const auto where = file.path().string() + ": " + kGgufTokens;
  const auto model = file.metadata().find("tokenizer.ggml.model");
  if (model == file.metadata().end() || model->second != "rwkv")
    throw DataError(where,
                    "is not of the kind \"rwkv\", which is the one that is read; give a "
                    "tokenizer with --tokenizer");
  const auto texts = gguf_strings(file.metadata().at(kGgufTokens));
  if (texts.size() >= 256 && texts[0] == "\\x00") return make_byte_tokenizer();
  std::string lines;
  for (std::size_t id = 1; id < texts.size(); ++id) {
    const auto& text = texts[id];
    if (text.starts_with("[PAD") || text.empty()) continue;
    std::int64_t bytes = 0;
    for (std::size_t i = 0; i < text.size(); ++bytes) {
      if (text[i] != '\\')
        ++i;
      else
        i += i + 1 < text.size() && text[i + 1] == 'x' ? 4 : 2;
    }
    // Between the quotes that it does not hold unescaped.
    std::string literal = "b\"";
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '"') literal += '\\';
      literal += text[i];
      if (text[i] == '\\' && i + 1 < text.size()) literal += text[++i];
    }
    lines += std::to_string(id) + " " + literal + "\" " + std::to_string(bytes) + "\n";
  }
  const TemporaryFolder folder;
  const auto path = folder.path() / "vocabulary.txt";
  write_file(path, lines);
  try {
    return load_tokenizer(path);
  } catch (const DataError& error) {
    throw DataError(where, error.what());
  }
}

}  // namespace

std::string ModelSource::hash() const {
  if (!weights_hash.empty()) return weights_hash;
  if (weights.size() == 1) return hash_file(weights[0]);
  Hasher hasher;
  for (const auto& one : weights) hasher.add(hash_file(one));
  return hasher.hex();
}

bool ModelSource::has_tokenizer() const {
  return !tokenizer.empty() || file.metadata().contains(kGgufTokens);
}

ModelSource open_model(const fs::path& path, Verification verification) {
  if (is_file(path)) return open_weights(path);
  if (is_folder(path) && !holds_checkpoints(path)) {
    if (is_file(path / kConfigFile)) {
      const auto config = parse_json_or_null(read_file(path / kConfigFile));
      if (config.is_object() && config.contains("model_type"))
        return open_hugging_face(path, config);
    } else if (const auto file = only_weights(path); !file.empty()) {
      return open_weights(file);
    }
  }
  return open_trained(path, verification);
}

nlohmann::json checkpoint_document(const ModelSource& source, const Tokenizer& tokenizer) {
  auto document = source.document;
  document["format"] = "rwkvx checkpoint 1";
  document["model"] = config_to_json(source.config);
  document["tokenizer"] = {{"kind", tokenizer.kind()},
                           {"vocab_size", tokenizer.vocab_size()},
                           {"hash", tokenizer.hash()}};
  if (source.kind != SourceKind::kCheckpoint)
    document["provenance"].update({{"weights", source.hash()}, {"version", version()}});
  return document;
}

fs::path tokenizer_path(const ModelSource& source, const fs::path& given) {
  if (!given.empty()) return given;
  return source.tokenizer.empty() ? source.path : source.tokenizer;
}

std::unique_ptr<Tokenizer> open_tokenizer(const ModelSource& source, const fs::path& given,
                                          const std::string& option) {
  auto tokenizer = !given.empty()              ? load_tokenizer(given)
                   : !source.tokenizer.empty() ? load_tokenizer(source.tokenizer)
                   : source.has_tokenizer()    ? tokenizer_of_gguf(source.file)
                                               : nullptr;
  if (tokenizer == nullptr)
    throw ConfigError(option, std::string("is required for weights without a tokenizer beside "
                                          "them: ") +
                                  kTokenizerNames);
  // Models of bytes alone have no id that ends documents.
  if (tokenizer->kind() == "byte" && source.config.vocab_size == 256)
    tokenizer = make_byte_tokenizer(/*document_end=*/false);
  if (!source.tokenizer_hash.empty() && source.tokenizer_hash != tokenizer->hash())
    throw CheckpointError(tokenizer_path(source, given).string(),
                          "is not the tokenizer that the model was trained with");
  if (tokenizer->vocab_size() > source.config.vocab_size)
    throw CheckpointError(source.path.string(), "has a vocabulary of " +
                                                    std::to_string(source.config.vocab_size) +
                                                    ", too small for its tokenizer's " +
                                                    std::to_string(tokenizer->vocab_size()) +
                                                    " ids; name the model's own with " + option);
  return tokenizer;
}

}  // namespace rwkvx

// A model to read, in whatever form it lies on the disk.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "rwkvx/checkpoint/checkpoint_config.h"
#include "rwkvx/checkpoint/checkpoint_directory.h"
#include "rwkvx/cores/names.h"
#include "rwkvx/text/tokenizer.h"

namespace rwkvx {

enum class SourceKind { kCheckpoint, kHuggingFace, kWeights };

struct ModelSource {
  SourceKind kind = SourceKind::kWeights;
  std::filesystem::path path;                  // the checkpoint's or model's directory, or the file
  std::vector<std::filesystem::path> weights;  // the files that the tensors are in
  TensorFile file;                             // the tensors under their official names
  ModelConfig config;
  // Where its tokenizer lies: a checkpoint's own, or what is found beside the weights. Empty where
  // there is none, and where the file of weights holds it itself.
  std::filesystem::path tokenizer;
  std::string tokenizer_hash;  // that of a checkpoint's training; may be empty
  nlohmann::json document;     // a checkpoint's config.json; null for others
  std::string weights_hash;    // as a checkpoint's checksums.json says; empty for others

  // XXH3-128 of the weights, which it reads unless checksums.json says it; of several files, of
  // their hashes.
  std::string hash() const;
  bool has_tokenizer() const;
};

// Opens a checkpoint or run directory, a directory of the transformers library (config.json beside
// model.safetensors, in shards too, or pytorch_model.bin), a directory with one file of weights, or
// a .pth, .safetensors or .gguf file. Beside weights that are not a checkpoint's, the tokenizer is
// looked for: tokenizer/, tokenizer.json, rwkv_vocab*.txt, *.model. `verification` is a
// checkpoint's. Throws CheckpointError, FileError.
ModelSource open_model(const std::filesystem::path& path,
                       Verification verification = Verification::kTensors);

// What config.json of a checkpoint of this model and tokenizer says: what a checkpoint's own says,
// or as much of it as other weights show.
nlohmann::json checkpoint_document(const ModelSource& source, const Tokenizer& tokenizer);

// The tokenizer of a model: what `given` names ("byte", a path), else its own. `option` is the flag
// for it, for messages. Throws ConfigError where there is none, CheckpointError where the model was
// trained with another or has fewer ids, DataError.
std::unique_ptr<Tokenizer> open_tokenizer(const ModelSource& source,
                                          const std::filesystem::path& given,
                                          const std::string& option = "--tokenizer");
// Where that tokenizer is.
std::filesystem::path tokenizer_path(const ModelSource& source, const std::filesystem::path& given);

}  // namespace rwkvx

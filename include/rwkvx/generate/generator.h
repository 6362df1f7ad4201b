// Prompts to continuations with a model of a checkpoint.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/config/generate_config.h"
#include "rwkvx/text/tokenizer.h"

namespace rwkvx {

struct Continuation {
  std::string text;  // valid UTF-8, ends before a stop text
  std::int64_t prompt_tokens = 0;
  std::int64_t tokens = 0;  // drawn, the one that ended it included
  std::string ended_by;     // "length", "stop", "document", "interrupt"
};

// A model and its tokenizer, ready to generate. Not thread-safe.
class Generator {
 public:
  // From a checkpoint directory or a run's folder. device: see find_device() in ops/device.h; all
  // arithmetic is float32. Throws CheckpointError, DataError, FileError, ConfigError.
  explicit Generator(const std::filesystem::path& model, std::int64_t threads = 0,
                     const std::string& device = "auto");
  ~Generator();
  Generator(const Generator&) = delete;
  Generator& operator=(const Generator&) = delete;

  const Tokenizer& tokenizer() const;
  // Draws a continuation; `show`, where given, gets its text piece by piece, and returning false
  // from it ends the generation. An empty prompt begins a document. `sequence` numbers the random
  // stream under the seed. Memory does not grow with the number of tokens but for the text itself,
  // which is left empty where `keep_text` is false.
  Continuation generate(std::string_view prompt, const GenerateConfig& config,
                        const std::function<bool(std::string_view)>& show = {},
                        std::uint64_t sequence = 0, bool keep_text = true);
  // Natural-log loss of every token of one text given those before it, the first given the end of a
  // document; the state is carried over the whole text. next(count) gives the following tokens, at
  // most `count` of them and none at the end; use() gets their losses in the same order.
  void losses(const std::function<std::vector<TokenId>(std::int64_t)>& next,
              const std::function<void(const std::vector<double>&)>& use);
  // The directory the model was loaded from, and the hash of its weights.
  const std::filesystem::path& path() const;
  const std::string& weights_hash() const;
  // "cpu" or "cuda".
  std::string device_kind() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rwkvx

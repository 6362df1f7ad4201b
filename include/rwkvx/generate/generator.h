// Prompts to continuations with a model of a checkpoint.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/adapters/apply.h"
#include "rwkvx/generate/generate_config.h"
#include "rwkvx/generate/sampler.h"
#include "rwkvx/text/tokenizer.h"

namespace rwkvx {

struct Continuation {
  std::string text;  // valid UTF-8, ends before a stop text
  std::int64_t prompt_tokens = 0;
  std::int64_t tokens = 0;  // drawn, the one that ended it included
  double logprob = 0;       // sum over the drawn tokens, natural log, before the samplers
  std::string ended_by;     // "length", "stop", "document", "interrupt"
};

// A token as it was drawn.
struct DrawnToken {
  TokenId token = 0;
  double logprob = 0;     // natural log of its probability before the samplers
  std::string_view text;  // what can be shown because of it; may be empty
  // The most likely tokens in its place, where asked for; see top_log_probabilities().
  std::span<const TokenLogprob> top{};
};
// Returning false ends the generation.
using ShowToken = std::function<bool(const DrawnToken&)>;

// A token of a prompt under the model, given the text before it.
struct PromptToken {
  TokenId token = 0;
  std::optional<double> logprob;  // natural log; none for a text's first token
  std::string_view text;          // as of a drawn token
  std::span<const TokenLogprob> top{};
};
using ShowPromptToken = std::function<void(const PromptToken&)>;

struct GeneratorOptions {
  std::int64_t threads = 0;     // 0: automatic
  std::string device = "auto";  // see find_device() in modules/device.h
  // Takes the place of the model's own; "byte" or a path. Wanted where the model has none beside
  // it.
  std::filesystem::path tokenizer{};
  std::string tokenizer_flag = "--tokenizer";  // what names it, for messages
  // States of prompts' beginnings are kept here and found again; empty: nowhere.
  std::filesystem::path prompt_cache{};
  std::int64_t prompt_cache_bytes = std::int64_t{1} << 30;
  AdapterChoice adapters{};
};

// A model and its tokenizer, ready to generate. Not thread-safe.
class Generator {
 public:
  // From whatever open_model() opens (checkpoint/model_source.h); all sums are float32, the weights
  // as they are. Throws CheckpointError, DataError, FileError, ConfigError.
  explicit Generator(const std::filesystem::path& model, const GeneratorOptions& options = {});
  Generator(const std::filesystem::path& model, std::int64_t threads,
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

  // Throws ConfigError naming the setting for token ids that the vocabulary has not, and where no
  // token is left to draw. Whatever draws does the same.
  void check(const GenerateConfig& config) const;

  struct Request {
    std::string prompt;
    std::uint64_t sequence = 0;
    // Draws this many continuations, of random streams sequence, sequence + 1, …
    std::int64_t samples = 1;
  };
  // Continues many prompts, up to `slots` at a time: as one ends, the next takes its place. done()
  // gets the continuations as they end: `request` counts the calls of next(), which returns none at
  // the end. show() gets each token as it is drawn, with `top_logprobs` alternatives. A
  // continuation is the same whatever runs beside it. Stops early where interrupted.
  using ShowSampleToken =
      std::function<void(std::int64_t request, std::int64_t sample, const DrawnToken&)>;
  void generate_many(std::int64_t slots, const GenerateConfig& config,
                     const std::function<std::optional<Request>()>& next,
                     const std::function<void(std::int64_t request, std::int64_t sample,
                                              const Continuation&)>& done,
                     const ShowSampleToken& show = {}, std::int64_t top_logprobs = 0);

  // Natural-log loss of every token of one text given those before it, the first given the end of a
  // document; the state is carried over the whole text. next(count) gives the following tokens, at
  // most `count` of them and none at the end; use() gets their losses in the same order.
  void losses(const std::function<std::vector<TokenId>(std::int64_t)>& next,
              const std::function<void(const std::vector<double>&)>& use);
  // The directory or file the model was loaded from, and the hash of its weights and adapters.
  const std::filesystem::path& path() const;
  const std::string& weights_hash() const;
  // What config.json of a checkpoint says; null for other models.
  const nlohmann::json& document() const;
  // "cpu" or "cuda".
  std::string device_kind() const;
  // The type of the weights: "f32", "bf16", "int8", "int4".
  std::string precision() const;

  struct Impl;  // src/generate/session.h

 private:
  friend class Session;
  std::unique_ptr<Impl> impl_;
};

struct DrawOptions {
  std::uint64_t sequence = 0;  // numbers the random stream under the seed
  bool keep_text = true;       // else Continuation::text stays empty
  // Prepares for save(): the state then is that of the text that was shown. Bytes that may be a
  // part of a character or the beginning of a stop text are not shown at the end but left to the
  // next draw(), and where a stop text ended the continuation, the tokens of which nothing was
  // shown are taken back. So draws one after the other show what a single one would.
  bool hold = false;
  std::int64_t top_logprobs = 0;  // alternatives of each token for show()
};

// One text that grows by what is fed and what is drawn; the state makes the past free.
class Session {
 public:
  explicit Session(Generator& generator);
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  // The same text so far, to go on in two ways.
  Session copy() const;

  // Appends a text; its tokens are those of the text alone. Where nothing came before, an empty one
  // begins a document. Throws Interrupted where a signal comes meanwhile (of an InterruptGuard);
  // the session is of no more use then. `show`, where given, gets each token, with `top_logprobs`
  // alternatives; the state is the same with and without it.
  void feed(std::string_view text, const ShowPromptToken& show = {}, std::int64_t top_logprobs = 0);
  // Draws and appends a continuation. Random numbers, penalties and a prefix that was not drawn to
  // its end resume where the last call ended.
  Continuation draw(const GenerateConfig& config, const ShowToken& show = {},
                    const DrawOptions& options = {});
  // The text that earlier draws left unshown, for the end of the text or before another text is
  // fed, which drops it. An incomplete last character is dropped as well.
  std::string release_held();
  // Tokens so far.
  std::int64_t tokens() const;

  // The state as a file: see docs/engine.md. load() takes the place of whatever came before; it
  // throws DataError where the file is damaged or belongs to another model or tokenizer, with the
  // reason. Both throw Error on a GPU.
  void save(const std::filesystem::path& path);
  void load(const std::filesystem::path& path);

  struct Impl;  // src/generate/session.h

 private:
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace rwkvx

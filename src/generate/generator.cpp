#include "rwkvx/generate/generator.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>

#include "generate/drawing.h"
#include "generate/language_model.h"
#include "generate/prompt_cache.h"
#include "generate/state_file.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/cores/names.h"
#include "rwkvx/generate/sampler.h"
#include "rwkvx/generate/text_stream.h"
#include "rwkvx/model/checkpoint_config.h"
#include "rwkvx/model/checkpoint_directory.h"
#include "rwkvx/ops/threads.h"

namespace rwkvx {
namespace {

// What a model is made from.
struct Source {
  std::filesystem::path path, weights, tokenizer;
  ModelConfig config;
  std::string hash;
  std::string tokenizer_hash;  // that of the training; may be empty
};

Source find_source(const std::filesystem::path& path, const std::filesystem::path& tokenizer) {
  if (std::filesystem::is_regular_file(path)) {
    const auto config = infer_config(open_tensors(path));
    if (tokenizer.empty())
      throw ConfigError("--tokenizer",
                        "is required for a weights file (a tokenizer directory, a sentencepiece "
                        ".model or an RWKV-World vocabulary .txt)");
    return {path, path, tokenizer, config, hash_file(path), ""};
  }
  // The tensors carry their own checksums, so that a damaged one is named.
  const auto directory = open_checkpoint(resolve_checkpoint(path), Verification::kTensors);
  const auto config = read_checkpoint_config(directory.path);
  return {directory.path,
          directory.weights(),
          tokenizer.empty() ? directory.tokenizer() : tokenizer,
          config.model,
          directory.files.at(kWeightsFile).hash,
          config.tokenizer_hash};
}

}  // namespace

struct Generator::Impl {
  Impl(const std::filesystem::path& path_, const GeneratorOptions& options) {
    const auto source = find_source(path_, options.tokenizer);
    path = source.path;
    hash = source.hash;
    tokenizer = load_tokenizer(source.tokenizer);
    rows = describe_state(source.config);
    model = open_language_model(open_tensors(source.weights), source.config, options.device,
                                "--device");
    if (!source.tokenizer_hash.empty() && source.tokenizer_hash != tokenizer->hash())
      throw CheckpointError(source.tokenizer.string(),
                            "is not the tokenizer that the model was trained with");
    if (tokenizer->vocab_size() > model->vocab_size())
      throw CheckpointError(source.path.string(),
                            "has a vocabulary of " + std::to_string(model->vocab_size()) +
                                ", too small for its tokenizer's " +
                                std::to_string(tokenizer->vocab_size()) + " ids");
    // A vocabulary is often filled up to a multiple of 64 or 128.
    constexpr std::int64_t kUsualPadding = 128;
    const auto padded =
        (tokenizer->vocab_size() + kUsualPadding - 1) / kUsualPadding * kUsualPadding;
    if (model->vocab_size() > padded)
      log_warning(source.tokenizer.string() + ": has " + count_text(tokenizer->vocab_size()) +
                  " ids, the model " + count_text(model->vocab_size()) +
                  "; it is probably not the tokenizer that the model was trained with, and the "
                  "text will make no sense");
    for (TokenId id = 0; id < tokenizer->vocab_size(); ++id)
      if (id != tokenizer->document_end() && tokenizer->piece(id).empty()) silent.push_back(id);
    if (!options.prompt_cache.empty())
      cache.emplace(options.prompt_cache, options.prompt_cache_bytes, owner());
  }
  StateOwner owner() const { return {hash, tokenizer->hash(), rows}; }

  // The tokens that are never drawn: those without a text, and those whose text holds one of the
  // banned ones.
  std::vector<TokenId> banned(const std::vector<std::string>& texts) const {
    auto out = silent;
    for (TokenId id = 0; !texts.empty() && id < tokenizer->vocab_size(); ++id) {
      const auto piece = tokenizer->piece(id);
      const auto holds = [&](const std::string& text) {
        return !text.empty() && piece.find(text) != std::string::npos;
      };
      if (std::any_of(texts.begin(), texts.end(), holds)) out.push_back(id);
    }
    return out;
  }

  std::filesystem::path path;
  std::unique_ptr<LanguageModel> model;
  std::unique_ptr<Tokenizer> tokenizer;
  std::string hash;
  std::vector<StateRow> rows;   // of a state
  std::vector<TokenId> silent;  // ids within the vocabulary that stand for no text
  std::optional<PromptCache> cache;
};

struct Session::Impl {
  explicit Impl(Generator::Impl& generator_) : generator(generator_) {
    state = generator.model->start();
  }

  // Feeds ids at the end of the text.
  void feed(std::span<const TokenId> ids) {
    if (ids.empty()) return;
    logits.resize(static_cast<std::size_t>(generator.model->vocab_size()));
    note(ids);
    const bool cached = tokens == 0 && generator.cache;
    std::size_t done = 0;
    if (cached)
      if (const auto found = generator.cache->find(ids)) {
        state = generator.model->import_state(*found);
        done = static_cast<std::size_t>(found->t);
      }
    // Pieces that a prefill makes anyway: a signal ends the work within one.
    constexpr auto kPiece = static_cast<std::size_t>(kPromptCacheStep);
    while (done < ids.size()) {
      throw_if_interrupted("the prompt");
      const auto count = std::min(ids.size() - done, kPiece);
      const bool last = done + count == ids.size();
      generator.model->prefill(ids.subspan(done, count), *state, last ? logits.data() : nullptr);
      done += count;
      if (cached && count == kPiece)
        generator.cache->keep(ids.first(done),
                              [&] { return generator.model->export_state(*state); });
    }
    tokens += static_cast<std::int64_t>(ids.size());
  }
  // Feeds the last drawn token, if that has not happened.
  void settle() {
    if (!pending) return;
    const TokenId token = *pending;
    pending.reset();
    SequenceState* const states[] = {state.get()};
    note({&token, 1});
    generator.model->step({&token, 1}, states, logits.data());
    ++tokens;
  }
  void note(std::span<const TokenId> ids) {
    text_hash = hash_bytes(
        text_hash + std::string(reinterpret_cast<const char*>(ids.data()), ids.size_bytes()));
  }

  Generator::Impl& generator;
  std::unique_ptr<SequenceState> state;
  std::vector<float> logits;  // after the last fed token
  std::optional<TokenId> pending;
  std::int64_t tokens = 0;
  std::int64_t fed = 0;  // tokens of the last feed()
  std::string text_hash;
  DrawingState text;
};

Session::Session(Generator& generator) : impl_(std::make_unique<Impl>(*generator.impl_)) {}
Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

Session Session::copy() const {
  auto other = std::make_unique<Impl>(impl_->generator);
  other->state = impl_->state->copy();
  other->logits = impl_->logits;
  other->pending = impl_->pending;
  other->tokens = impl_->tokens;
  other->fed = impl_->fed;
  other->text_hash = impl_->text_hash;
  other->text = impl_->text;
  return Session(std::move(other));
}

void Session::feed(std::string_view text) {
  auto ids = impl_->generator.tokenizer->encode(text);
  if (!ids.empty()) {
    impl_->text.at_start = false;
    release_held();
  }
  if (ids.empty() && impl_->tokens == 0) {
    ids.push_back(impl_->generator.tokenizer->document_end());
    impl_->text.at_start = true;
  }
  impl_->settle();
  impl_->feed(ids);
  impl_->fed = static_cast<std::int64_t>(ids.size());
}

Continuation Session::draw(const GenerateConfig& config, const ShowToken& show,
                           const DrawOptions& options) {
  const auto prompt_tokens = impl_->fed;
  if (config.max_new_tokens > 0 && impl_->tokens == 0 && !impl_->pending) feed("");
  Drawing drawing(*impl_->generator.tokenizer, config, impl_->generator.banned(config.ban_text),
                  impl_->text, options);
  drawing.result.prompt_tokens = prompt_tokens;
  if (config.max_new_tokens == 0) {
    if (options.hold) impl_->text = drawing.state();
    return drawing.result;
  }
  // Before each token of which nothing was shown yet: a stop text is taken back.
  struct Before {
    std::size_t bytes;
    DrawingState text;
    std::unique_ptr<SequenceState> state;
    std::vector<float> logits;
    std::int64_t tokens;
    std::string text_hash;
  };
  std::deque<Before> unshown;
  const bool takes_back = options.hold && !config.stop.empty();
  bool more = true;
  while (more) {
    impl_->settle();
    check_mapped_files();
    Before before{drawing.bytes(), {}, nullptr, {}, 0, ""};
    if (takes_back) before.text = drawing.state();
    more = drawing.draw(impl_->logits, show);
    impl_->pending = drawing.token;
    if (!takes_back) continue;
    while (!unshown.empty() && unshown.front().bytes < drawing.shown()) unshown.pop_front();
    if (before.bytes < drawing.shown() || drawing.shown() == drawing.bytes()) continue;
    before.state = impl_->state->copy();
    before.logits = impl_->logits;
    before.tokens = impl_->tokens;
    before.text_hash = impl_->text_hash;
    unshown.push_back(std::move(before));
  }
  impl_->text = drawing.state();
  if (drawing.result.ended_by == "stop" && !unshown.empty()) {
    auto& first = unshown.front();
    impl_->text = std::move(first.text);
    impl_->state = std::move(first.state);
    impl_->logits = std::move(first.logits);
    impl_->tokens = first.tokens;
    impl_->text_hash = std::move(first.text_hash);
    impl_->pending.reset();
    // What of its text came before the stop text was shown since.
    impl_->text.held = drawing.state().held.substr(0, first.bytes - drawing.shown());
  }
  return drawing.result;
}

std::string Session::release_held() {
  TextStream stream({});
  auto text = stream.push(std::exchange(impl_->text.held, ""));
  impl_->text.prefix.clear();
  return text;
}

std::int64_t Session::tokens() const { return impl_->tokens + (impl_->pending ? 1 : 0); }

void Session::save(const std::filesystem::path& path) {
  impl_->settle();
  auto logits = impl_->logits;
  logits.resize(static_cast<std::size_t>(impl_->generator.model->vocab_size()));
  write_state(
      path,
      {impl_->generator.model->export_state(*impl_->state), logits, impl_->text, impl_->text_hash},
      impl_->generator.owner());
}

void Session::load(const std::filesystem::path& path) {
  auto saved = read_state(path, impl_->generator.owner(), impl_->generator.model->vocab_size());
  impl_->tokens = saved.state.t;
  impl_->state = impl_->generator.model->import_state(saved.state);
  impl_->logits = std::move(saved.logits);
  impl_->text = std::move(saved.text);
  impl_->text_hash = saved.text_hash;
  impl_->pending.reset();
  impl_->fed = 0;
}

Generator::Generator(const std::filesystem::path& model, const GeneratorOptions& options) {
  set_threads(options.threads);
  impl_ = std::make_unique<Impl>(model, options);
}
Generator::Generator(const std::filesystem::path& model, std::int64_t threads,
                     const std::string& device)
    : Generator(model, GeneratorOptions{threads, device, {}, {}, 0}) {}
Generator::~Generator() = default;

const Tokenizer& Generator::tokenizer() const { return *impl_->tokenizer; }
const std::filesystem::path& Generator::path() const { return impl_->path; }
const std::string& Generator::weights_hash() const { return impl_->hash; }
std::string Generator::device_kind() const { return impl_->model->device_kind(); }
std::string Generator::precision() const { return impl_->model->precision(); }

Continuation Generator::generate(std::string_view prompt, const GenerateConfig& config,
                                 const std::function<bool(std::string_view)>& show,
                                 std::uint64_t sequence, bool keep_text) {
  Session session(*this);
  session.feed(prompt);
  ShowToken show_token;
  if (show) show_token = [&](const DrawnToken& one) { return one.text.empty() || show(one.text); };
  return session.draw(config, show_token, {.sequence = sequence, .keep_text = keep_text});
}

void Generator::generate_many(
    std::int64_t slots, const GenerateConfig& config,
    const std::function<std::optional<Request>()>& next,
    const std::function<void(std::int64_t, std::int64_t, const Continuation&)>& done) {
  struct Slot {
    std::int64_t request, sample;
    std::unique_ptr<SequenceState> state;
    std::unique_ptr<Drawing> drawing;
  };
  auto& model = *impl_->model;
  const auto V = static_cast<std::size_t>(model.vocab_size());
  const auto banned = impl_->banned(config.ban_text);
  std::vector<Slot> active;
  // The prompt whose samples are being handed out.
  std::optional<Request> open;
  std::optional<Session> prompt;
  std::int64_t requests = 0, sample = 0, prompt_tokens = 0;
  std::vector<float> logits;
  std::vector<TokenId> tokens;
  std::vector<SequenceState*> states;
  bool ended = false;
  while (!interrupted()) {
    while (!ended && static_cast<std::int64_t>(active.size()) < std::max<std::int64_t>(1, slots)) {
      if (!open) {
        open = next();
        if (!open) {
          ended = true;
          break;
        }
        ++requests;
        sample = 0;
        prompt.emplace(*this);
        try {
          prompt->feed(open->prompt);
        } catch (const Interrupted&) {
          return;
        }
        prompt_tokens = prompt->tokens();
      }
      const auto sequence = open->sequence + static_cast<std::uint64_t>(sample);
      Slot slot{requests - 1, sample, prompt->impl_->state->copy(),
                std::make_unique<Drawing>(*impl_->tokenizer, config, banned, prompt->impl_->text,
                                          DrawOptions{.sequence = sequence})};
      slot.drawing->result.prompt_tokens = prompt_tokens;
      if (config.max_new_tokens > 0 && slot.drawing->draw(prompt->impl_->logits, {}))
        active.push_back(std::move(slot));
      else
        done(slot.request, slot.sample, slot.drawing->result);
      if (++sample >= open->samples) open.reset();
    }
    if (active.empty()) return;
    tokens.clear();
    states.clear();
    for (auto& slot : active) {
      tokens.push_back(slot.drawing->token);
      states.push_back(slot.state.get());
    }
    logits.resize(active.size() * V);
    model.step(tokens, states, logits.data());
    check_mapped_files();
    for (std::size_t i = 0; i < active.size(); ++i)
      if (!active[i].drawing->draw({logits.data() + i * V, V}, {})) {
        if (active[i].drawing->result.ended_by == "interrupt") return;
        done(active[i].request, active[i].sample, active[i].drawing->result);
        active[i].state.reset();
      }
    std::erase_if(active, [](const Slot& slot) { return slot.state == nullptr; });
  }
}

void Generator::losses(const std::function<std::vector<TokenId>(std::int64_t)>& next,
                       const std::function<void(const std::vector<double>&)>& use) {
  const auto state = impl_->model->start();
  const auto V = static_cast<std::size_t>(impl_->model->vocab_size());
  TokenId before = impl_->tokenizer->document_end();
  while (!interrupted()) {
    const auto ids = next(Engine::kChunk);
    if (ids.empty()) return;
    std::vector<TokenId> inputs{before};
    inputs.insert(inputs.end(), ids.begin(), ids.end() - 1);
    before = ids.back();
    std::vector<double> losses(ids.size());
    impl_->model->prefill_all(inputs, *state, [&](std::int64_t first, std::span<const float> rows) {
      at::parallel_for(0, static_cast<std::int64_t>(rows.size() / V), 1,
                       [&](std::int64_t begin, std::int64_t end) {
                         for (std::int64_t i = begin; i < end; ++i) {
                           const auto at = static_cast<std::size_t>(first + i);
                           losses[at] = -log_probability(
                               rows.subspan(static_cast<std::size_t>(i) * V, V), ids[at]);
                         }
                       });
    });
    check_mapped_files();
    use(losses);
  }
}

}  // namespace rwkvx

#include "rwkvx/generate/generator.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "generate/session.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/threads.h"
#include "rwkvx/checkpoint/model_source.h"
#include "rwkvx/generate/language_model.h"
#include "rwkvx/generate/sampler.h"
#include "rwkvx/generate/text_stream.h"

namespace rwkvx {
Generator::Impl::Impl(const std::filesystem::path& path_, const GeneratorOptions& options) {
  const auto adapted = with_adapters(open_model(path_), options.adapters);
  const auto& source = adapted.source;
  initial = adapted.initial_state;
  path = source.path;
  document = source.document;
  hash = source.hash();
  tokenizer = open_tokenizer(source, options.tokenizer, options.tokenizer_flag);
  rows = describe_state(source.config);
  model = open_language_model(source.file, source.config, options.device, "--device");
  // A vocabulary is often filled up to a multiple of 64 or 128.
  constexpr std::int64_t kUsualPadding = 128;
  const auto padded = (tokenizer->vocab_size() + kUsualPadding - 1) / kUsualPadding * kUsualPadding;
  if (model->vocab_size() > padded)
    log_warning(tokenizer_path(source, options.tokenizer).string() + ": has " +
                count_text(tokenizer->vocab_size()) + " ids, the model " +
                count_text(model->vocab_size()) +
                "; it is probably not the tokenizer that the model was trained with, and the "
                "text will make no sense");
  for (TokenId id = 0; id < tokenizer->vocab_size(); ++id)
    if (id != tokenizer->document_end() && tokenizer->piece(id).empty()) silent.push_back(id);
  if (!options.prompt_cache.empty())
    cache.emplace(options.prompt_cache, options.prompt_cache_bytes, owner());
}

const std::vector<TokenId>& Generator::Impl::holding(const std::vector<std::string>& texts) const {
  if (texts == held_texts_) return holding_;
  holding_.clear();
  for (TokenId id = 0; id < tokenizer->vocab_size(); ++id) {
    const auto piece = tokenizer->piece(id);
    const auto holds = [&](const std::string& text) {
      return !text.empty() && piece.find(text) != std::string::npos;
    };
    if (std::any_of(texts.begin(), texts.end(), holds)) holding_.push_back(id);
  }
  held_texts_ = texts;
  return holding_;
}

std::unique_ptr<SequenceState> Generator::Impl::start() const {
  return initial ? model->import_state(*initial) : model->start();
}

std::vector<TokenId> Generator::Impl::banned(const GenerateConfig& config) const {
  const auto V = tokenizer->vocab_size();
  const auto check_id = [&](const char* name, std::int64_t id) {
    if (id < V) return;
    throw ConfigError(name, "expected a token id from 0 to " + std::to_string(V - 1) + ", got " +
                                std::to_string(id) +
                                "; `rwkvx tokenizer encode` prints the ids of a text");
  };
  auto out = silent;
  const auto& held = holding(config.ban_text);
  out.insert(out.end(), held.begin(), held.end());
  if (config.ignore_end && tokenizer->document_end() != kNoToken)
    out.push_back(tokenizer->document_end());
  for (const auto id : config.banned_ids()) {
    check_id("ban_id", id);
    out.push_back(static_cast<TokenId>(id));
  }
  for (const auto& [id, bias] : config.biases()) {
    check_id("bias", id);
    if (std::isinf(bias)) out.push_back(static_cast<TokenId>(id));
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  if (static_cast<std::int64_t>(out.size()) == V) {
    const char* name = !config.ban_id.empty()     ? "ban_id"
                       : !config.ban_text.empty() ? "ban_text"
                       : !config.bias.empty()     ? "bias"
                                                  : "ignore_end";
    throw ConfigError(name, "expected at least one token that may be drawn, got all " +
                                std::to_string(V) +
                                " banned by ban_id, bias, ban_text and ignore_end; remove some");
  }
  return out;
}

void Generator::Impl::losses(std::span<const TokenId> tokens, std::span<const TokenId> next,
                             SequenceState& state, std::span<double> losses) const {
  model->prefill_losses(tokens, next, state, losses);
  check_mapped_files();
}

std::int64_t Generator::Impl::state_bytes() const {
  std::int64_t floats = model->vocab_size();
  for (const auto& row : rows) floats += row.count();
  return floats * static_cast<std::int64_t>(sizeof(float));
}

Generator::Generator(const std::filesystem::path& model, const GeneratorOptions& options) {
  set_team_threads(options.threads);
  impl_ = std::make_unique<Impl>(model, options);
}
Generator::Generator(const std::filesystem::path& model, std::int64_t threads,
                     const std::string& device)
    : Generator(model, GeneratorOptions{.threads = threads, .device = device}) {}
Generator::~Generator() = default;

const Tokenizer& Generator::tokenizer() const { return *impl_->tokenizer; }
const std::filesystem::path& Generator::path() const { return impl_->path; }
const nlohmann::json& Generator::document() const { return impl_->document; }
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

void Generator::check(const GenerateConfig& config) const { impl_->banned(config); }

void Generator::generate_many(
    std::int64_t slots, const GenerateConfig& config,
    const std::function<std::optional<Request>()>& next,
    const std::function<void(std::int64_t, std::int64_t, const Continuation&)>& done,
    const ShowSampleToken& show, std::int64_t top_logprobs) {
  SessionBatch batch(*impl_);
  // The prompt whose samples are being handed out.
  std::optional<Request> open;
  std::optional<Session> prompt;
  std::int64_t requests = 0, sample = 0;
  std::vector<std::pair<std::int64_t, std::int64_t>> begun;  // request and sample, by number
  bool ended = false;
  while (!interrupted()) {
    while (!ended && static_cast<std::int64_t>(batch.size()) < std::max<std::int64_t>(1, slots)) {
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
      }
      const auto request = requests - 1;
      SessionBatch::Member member;
      member.number = static_cast<std::int64_t>(begun.size());
      begun.emplace_back(request, sample);
      member.session = std::make_unique<Session>(prompt->copy());
      const auto sequence = open->sequence + static_cast<std::uint64_t>(sample);
      member.draw = std::make_unique<SessionDraw>(
          Session::Impl::of(*member.session), config,
          DrawOptions{.sequence = sequence, .top_logprobs = top_logprobs});
      if (show)
        member.show = [&show, request, sample](const DrawnToken& one) {
          show(request, sample, one);
          return true;
        };
      if (config.max_new_tokens > 0)
        batch.add(std::move(member));
      else
        done(request, sample, member.draw->finish());
      if (++sample >= open->samples) open.reset();
    }
    bool any_ended = false;
    for (auto& member : batch.ended()) {
      if (member.error) std::rethrow_exception(member.error);
      const auto result = member.draw->finish();
      if (result.ended_by == "interrupt") return;
      const auto& [request, number] = begun[static_cast<std::size_t>(member.number)];
      done(request, number, result);
      any_ended = true;
    }
    if (any_ended) continue;  // the next prompts take their places
    if (batch.size() == 0) return;
    batch.step();
  }
}

void Generator::losses(const std::function<std::vector<TokenId>(std::int64_t)>& next,
                       const std::function<void(const std::vector<double>&)>& use) {
  const auto state = impl_->start();
  TokenId before = impl_->tokenizer->text_start();
  while (!interrupted()) {
    const auto ids = next(impl_->model->chunk());
    if (ids.empty()) return;
    std::vector<TokenId> inputs{before};
    inputs.insert(inputs.end(), ids.begin(), ids.end() - 1);
    before = ids.back();
    std::vector<double> losses(ids.size());
    impl_->losses(inputs, ids, *state, losses);
    use(losses);
  }
}

}  // namespace rwkvx

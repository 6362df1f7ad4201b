#include "generate/session.h"

#include <algorithm>
#include <utility>

#include "generate/initial_state.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/threads.h"
#include "rwkvx/generate/sampler.h"
#include "rwkvx/generate/text_stream.h"
#include "rwkvx/kernels/team.h"

namespace rwkvx {

Session::Impl::Impl(Generator::Impl& generator_) : generator(generator_) {
  state = generator.start();
}

void Session::Impl::begin_feed(std::string_view prompt, ShowPromptToken show,
                               std::int64_t top_logprobs) {
  auto ids = generator.tokenizer->encode(prompt);
  if (!ids.empty()) {
    text.at_start = false;
    text.held.clear();
    text.prefix.clear();
  }
  if (ids.empty() && tokens == 0 && !pending) {
    ids.push_back(generator.tokenizer->text_start());
    text.at_start = true;
  }
  settle();
  fed = static_cast<std::int64_t>(ids.size());
  feeding = {std::move(ids), 0, false, std::move(show), top_logprobs};
  if (feeding.ids.empty()) return;
  logits.resize(static_cast<std::size_t>(generator.model->vocab_size()));
  note(feeding.ids);
  feeding.cached = tokens == 0 && generator.cache;
  // Of the tokens of a cached state there are no probabilities.
  if (feeding.cached && !feeding.show)
    if (const auto found = generator.cache->find(feeding.ids)) {
      state = generator.model->import_state(*found);
      feeding.done = static_cast<std::size_t>(found->t);
    }
}

bool Session::Impl::feed_some() {
  const std::span<const TokenId> ids = feeding.ids;
  if (feeding.done == ids.size()) return false;
  throw_if_interrupted("the prompt");
  constexpr auto kPiece = static_cast<std::size_t>(kPromptCacheStep);
  const auto first = feeding.done, count = std::min(ids.size() - first, kPiece);
  const auto piece = ids.subspan(first, count);
  const bool last = first + count == ids.size();
  if (!feeding.show) {
    generator.model->prefill(piece, *state, last ? logits.data() : nullptr);
  } else {
    const auto V = logits.size();
    show_token(first, first > 0 || tokens > 0 ? logits : std::span<const float>());
    generator.model->prefill_all(piece, *state, [&](std::int64_t row, std::span<const float> rows) {
      for (std::size_t i = 0; i < rows.size() / V; ++i) {
        const auto after = rows.subspan(i * V, V);
        const auto next = static_cast<std::size_t>(row) + i + 1;
        if (next < count)
          show_token(first + next, after);
        else
          std::copy(after.begin(), after.end(), logits.begin());
      }
    });
  }
  feeding.done += count;
  if (feeding.cached && count == kPiece)
    generator.cache->keep(ids.first(feeding.done),
                          [&] { return generator.model->export_state(*state); });
  if (!last) return true;
  tokens += static_cast<std::int64_t>(ids.size());
  feeding = {};
  return false;
}

void Session::Impl::show_token(std::size_t place, std::span<const float> before) {
  const auto& tokenizer = *generator.tokenizer;
  PromptToken one{feeding.ids[place], std::nullopt, {}, {}};
  std::vector<TokenLogprob> top;
  if (!before.empty()) {
    one.logprob = log_probability(before, one.token);
    top = top_log_probabilities(before, tokenizer.vocab_size(), feeding.top_logprobs);
    one.top = top;
  }
  auto shown = feeding.stream.push(tokenizer.piece_in_text(one.token, feeding.at_start));
  if (place + 1 == feeding.ids.size()) shown += feeding.stream.finish();
  one.text = shown;
  feeding.show(one);
}

void Session::Impl::settle() {
  if (!pending) return;
  const TokenId token = *pending;
  logits.resize(static_cast<std::size_t>(generator.model->vocab_size()));
  SequenceState* const states[] = {state.get()};
  generator.model->step({&token, 1}, states, logits.data());
  note_fed();
}

TokenLogprob Session::Impl::settle_and_draw(const DrawRequest& request) {
  const TokenId token = *pending;
  SequenceState* const states[] = {state.get()};
  TokenLogprob drawn;
  generator.model->step_and_draw({&token, 1}, states, {&request, 1},
                                 generator.tokenizer->vocab_size(), {&drawn, 1});
  check_mapped_files();
  note_fed();
  return drawn;
}

void Session::Impl::note_fed() {
  const TokenId token = *pending;
  pending.reset();
  note({&token, 1});
  ++tokens;
}

void Session::Impl::note(std::span<const TokenId> ids) {
  text_hash = hash_bytes(text_hash +
                         std::string(reinterpret_cast<const char*>(ids.data()), ids.size_bytes()));
}

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

void Session::feed(std::string_view text, const ShowPromptToken& show, std::int64_t top_logprobs) {
  impl_->begin_feed(text, show, top_logprobs);
  while (impl_->feed_some()) {
  }
}

Continuation Session::draw(const GenerateConfig& config, const ShowToken& show,
                           const DrawOptions& options) {
  const auto prompt_tokens = impl_->fed;
  if (config.max_new_tokens > 0 && impl_->tokens == 0 && !impl_->pending) feed("");
  SessionDraw drawing(*impl_, config, options);
  bool more = config.max_new_tokens > 0;
  const bool requests = impl_->generator.model->draws() && drawing.requests();
  while (more) {
    if (requests && impl_->pending) {
      drawing.choose(impl_->settle_and_draw(drawing.request()));
    } else {
      impl_->settle();
      check_mapped_files();
      drawing.choose(impl_->logits);
    }
    more = drawing.append(impl_->logits, show);
  }
  auto result = drawing.finish();
  result.prompt_tokens = prompt_tokens;
  return result;
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
  if (const auto tuned = read_initial_state(path, impl_->generator.rows)) {
    auto& generator = impl_->generator;
    if (generator.initial)
      throw DataError(path.string(), "is a second initial state beside the adapter's");
    impl_ = std::make_unique<Impl>(generator);
    impl_->state = generator.model->import_state(*tuned);
    generator.cache.reset();  // knows texts that begin without it
    return;
  }
  auto saved = read_state(path, impl_->generator.owner(), impl_->generator.model->vocab_size());
  impl_->tokens = saved.state.t;
  impl_->state = impl_->generator.model->import_state(saved.state);
  impl_->logits = std::move(saved.logits);
  impl_->text = std::move(saved.text);
  impl_->text_hash = saved.text_hash;
  impl_->pending.reset();
  impl_->fed = 0;
}

SessionDraw::SessionDraw(Session::Impl& session, const GenerateConfig& config,
                         const DrawOptions& options)
    : session_(session),
      drawing_(*session.generator.tokenizer, config, session.generator.banned(config), session.text,
               options),
      hold_(options.hold),
      takes_back_(options.hold && !config.stop.empty()),
      draws_(config.max_new_tokens > 0) {
  drawing_.result.prompt_tokens = session.fed;
}

void SessionDraw::choose(std::span<const float> logits) {
  before_ = {drawing_.bytes(), {}, nullptr, {}, 0, ""};
  if (takes_back_) before_.text = drawing_.state();
  drawing_.choose(logits);
}

bool SessionDraw::append(std::span<const float> logits, const ShowToken& show) {
  const bool more = drawing_.append(show);
  session_.pending = drawing_.token;
  if (!takes_back_) return more;
  while (!unshown_.empty() && unshown_.front().bytes < drawing_.shown()) unshown_.pop_front();
  if (before_.bytes < drawing_.shown() || drawing_.shown() == drawing_.bytes()) return more;
  before_.state = session_.state->copy();
  before_.logits.assign(logits.begin(), logits.end());
  before_.tokens = session_.tokens;
  before_.text_hash = session_.text_hash;
  unshown_.push_back(std::move(before_));
  return more;
}

Continuation SessionDraw::finish() {
  if (draws_ || hold_) session_.text = drawing_.state();
  if (drawing_.result.ended_by == "stop" && !unshown_.empty()) {
    auto& first = unshown_.front();
    session_.text = std::move(first.text);
    session_.state = std::move(first.state);
    session_.logits = std::move(first.logits);
    session_.tokens = first.tokens;
    session_.text_hash = std::move(first.text_hash);
    session_.pending.reset();
    // What of its text came before the stop text was shown since.
    session_.text.held = drawing_.state().held.substr(0, first.bytes - drawing_.shown());
  }
  return drawing_.result;
}

void SessionBatch::add(Member member) {
  auto& session = Session::Impl::of(*member.session);
  session.settle();
  members_.push_back(std::move(member));
  auto& added = members_.back();
  guarded(added, [&] { added.draw->choose(session.logits); });
  append({&added}, session.logits);
}

template <class Run>
void SessionBatch::guarded(Member& member, const Run& run) {
  try {
    run();
  } catch (const FileError&) {  // of the output
    throw;
  } catch (...) {
    member.error = std::current_exception();
    member.more = false;
  }
}

void SessionBatch::append(const std::vector<Member*>& members, std::span<const float> logits) {
  const auto V = members.empty() ? 0 : logits.size() / members.size();
  for (std::size_t i = 0; i < members.size(); ++i) {
    auto& member = *members[i];
    if (member.error) continue;
    guarded(member,
            [&] { member.more = member.draw->append(logits.subspan(i * V, V), member.show); });
  }
}

void SessionBatch::step() {
  std::vector<Member*> active;
  std::vector<TokenId> tokens;
  std::vector<SequenceState*> states;
  for (auto& member : members_) {
    if (!member.more) continue;
    auto& session = Session::Impl::of(*member.session);
    active.push_back(&member);
    tokens.push_back(*session.pending);
    states.push_back(session.state.get());
  }
  if (active.empty()) return;
  auto& model = *generator_.model;
  std::span<const float> logits;
  if (model.draws() &&
      std::ranges::all_of(active, [](const Member* one) { return one->draw->requests(); })) {
    std::vector<DrawRequest> requests;
    for (auto* member : active) requests.push_back(member->draw->request());
    std::vector<TokenLogprob> drawn(active.size());
    model.step_and_draw(tokens, states, requests, generator_.tokenizer->vocab_size(), drawn);
    check_mapped_files();
    for (std::size_t i = 0; i < active.size(); ++i)
      guarded(*active[i], [&] { active[i]->draw->choose(drawn[i]); });
  } else {
    const auto V = static_cast<std::size_t>(model.vocab_size());
    logits_.resize(active.size() * V);
    model.step(tokens, states, logits_.data());
    check_mapped_files();
    logits = logits_;
    run_in_pieces(
        team_threads(), std::ssize(active), 1, [&](std::int64_t first, std::int64_t last) {
          for (auto i = static_cast<std::size_t>(first); i < static_cast<std::size_t>(last); ++i)
            guarded(*active[i], [&] { active[i]->draw->choose(logits.subspan(i * V, V)); });
        });
  }
  for (auto* member : active) Session::Impl::of(*member->session).note_fed();
  append(active, logits);
}

std::vector<SessionBatch::Member> SessionBatch::ended() {
  std::vector<Member> out;
  for (auto& member : members_)
    if (!member.more) out.push_back(std::move(member));
  std::erase_if(members_, [](const Member& member) { return member.session == nullptr; });
  return out;
}

}  // namespace rwkvx

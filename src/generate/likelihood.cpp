#include "rwkvx/generate/likelihood.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <span>

#include "generate/session.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/generate/sampler.h"

namespace rwkvx {
namespace {

constexpr auto kChunk = static_cast<std::size_t>(Engine::kChunk);

// A prompt whose continuations are being scored.
struct Asked {
  std::vector<Likelihood> found;
  std::size_t left = 0;  // continuations without a result
};

// A continuation of which tokens are left to feed.
struct Running {
  std::int64_t request;
  std::size_t place;
  std::vector<TokenId> ids;
  std::size_t fed = 0;
  std::unique_ptr<SequenceState> state;
};

std::size_t common_length(std::span<const TokenId> a, std::span<const TokenId> b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first -
                                  a.begin());
}

// Adds a token that is to follow the logits (V).
void add_token(std::span<const float> logits, TokenId id, Likelihood& likelihood) {
  likelihood.logprob += log_probability(logits, id);
  ++likelihood.tokens;
  const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
  likelihood.greedy = likelihood.greedy && best == id;
}

// The states of prompts, each begun from what it shares with the one before.
class Prompts {
 public:
  explicit Prompts(Generator::Impl& generator)
      : generator_(generator),
        most_(static_cast<std::size_t>(generator.model->chunk())),
        logits_(static_cast<std::size_t>(generator.model->vocab_size())) {}

  // The state after these tokens, of which there is at least one; the logits after them are
  // logits() then.
  std::unique_ptr<SequenceState> feed(const std::vector<TokenId>& ids) {
    // What is shared stops before the last token, whose logits are wanted.
    const auto shared = std::min(common_length(ids, before_), ids.size() - 1) / kChunk * kChunk;
    before_ = ids;
    const bool known = kept_ && kept_ids_.size() < ids.size() &&
                       std::equal(kept_ids_.begin(), kept_ids_.end(), ids.begin());
    auto state = known ? kept_->copy() : generator_.start();
    std::size_t done = known ? kept_ids_.size() : 0;
    const auto prefill = [&](std::size_t end) {
      for (; done < end; done = std::min(end, done + most_)) {
        throw_if_interrupted("the prompt");
        const auto count = std::min(most_, end - done);
        const bool last = done + count == ids.size();
        generator_.model->prefill(std::span(ids).subspan(done, count), *state,
                                  last ? logits_.data() : nullptr);
      }
    };
    if (shared > done) {
      prefill(shared);
      kept_ = state->copy();
      kept_ids_.assign(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(shared));
    }
    prefill(ids.size());
    check_mapped_files();
    return state;
  }
  std::span<const float> logits() const { return logits_; }

 private:
  Generator::Impl& generator_;
  std::size_t most_;           // tokens of a call
  std::vector<float> logits_;  // (V)
  std::vector<TokenId> before_, kept_ids_;
  std::unique_ptr<SequenceState> kept_;
};

}  // namespace

void continuation_likelihoods(
    Generator& generator, ContinuationTokens tokens, std::int64_t slots,
    const std::function<std::optional<LikelihoodRequest>()>& next,
    const std::function<void(std::int64_t request, const std::vector<Likelihood>&)>& done) {
  auto& inside = Generator::Impl::of(generator);
  const auto& tokenizer = *inside.tokenizer;
  const auto V = static_cast<std::size_t>(inside.model->vocab_size());
  Prompts prompts(inside);
  std::deque<Asked> open;  // of the requests from `first_open` on
  std::int64_t first_open = 0;
  std::vector<Running> running;
  std::vector<float> logits;
  const auto finish = [&](std::int64_t request) {
    --open[static_cast<std::size_t>(request - first_open)].left;
    for (; !open.empty() && open.front().left == 0; open.pop_front())
      done(first_open++, open.front().found);
  };

  const auto begin = [&](LikelihoodRequest asked) {
    const auto request = first_open + static_cast<std::int64_t>(open.size());
    const bool joint = tokens == ContinuationTokens::kJoint;
    const auto own = tokenizer.encode(asked.prompt);
    auto ids = own;
    if (ids.empty()) ids.push_back(tokenizer.text_start());
    const auto state = prompts.feed(ids);
    auto& found = open.emplace_back();
    found.found.resize(asked.continuations.size());
    // One more, so that the request is not over before all its continuations have begun.
    found.left = asked.continuations.size() + 1;
    for (std::size_t k = 0; k < asked.continuations.size(); ++k) {
      auto& likelihood = found.found[k];
      auto rest =
          tokenizer.encode(joint ? asked.prompt + asked.continuations[k] : asked.continuations[k]);
      if (joint) {
        likelihood.merged = common_length(own, rest) < own.size();
        rest.erase(rest.begin(),
                   rest.begin() + static_cast<std::ptrdiff_t>(std::min(own.size(), rest.size())));
      }
      if (!rest.empty()) add_token(prompts.logits(), rest.front(), likelihood);
      if (rest.size() > 1)
        running.push_back({request, k, std::move(rest), 0, state->copy()});
      else
        --found.left;
    }
    finish(request);
  };

  std::vector<TokenId> inputs;
  std::vector<SequenceState*> states;
  for (bool more = true; more || !running.empty();) {
    throw_if_interrupted("eval");
    while (more && static_cast<std::int64_t>(running.size()) < std::max<std::int64_t>(1, slots)) {
      if (auto asked = next())
        begin(std::move(*asked));
      else
        more = false;
    }
    const auto count =
        std::min(running.size(), static_cast<std::size_t>(std::max<std::int64_t>(1, slots)));
    if (count == 0) continue;
    inputs.clear();
    states.clear();
    for (std::size_t i = 0; i < count; ++i) {
      inputs.push_back(running[i].ids[running[i].fed++]);
      states.push_back(running[i].state.get());
    }
    logits.resize(count * V);
    inside.model->step(inputs, states, logits.data());
    check_mapped_files();
    std::vector<std::int64_t> ended;
    for (std::size_t i = 0; i < count; ++i) {
      auto& one = running[i];
      auto& asked = open[static_cast<std::size_t>(one.request - first_open)];
      add_token({logits.data() + i * V, V}, one.ids[one.fed], asked.found[one.place]);
      if (one.fed + 1 == one.ids.size()) ended.push_back(one.request);
    }
    std::erase_if(running, [](const Running& one) { return one.fed + 1 == one.ids.size(); });
    for (const auto request : ended) finish(request);
  }
}

std::vector<double> token_losses(Generator& generator, std::span<const TokenId> tokens) {
  const auto& inside = Generator::Impl::of(generator);
  const auto state = inside.start();
  std::vector<double> losses(tokens.empty() ? 0 : tokens.size() - 1);
  for (std::size_t done = 0; done < losses.size();) {
    throw_if_interrupted("eval");
    const auto count =
        std::min(static_cast<std::size_t>(inside.model->chunk()), losses.size() - done);
    inside.losses(tokens.subspan(done, count), tokens.subspan(done + 1, count), *state,
                  std::span(losses).subspan(done, count));
    done += count;
  }
  return losses;
}

}  // namespace rwkvx

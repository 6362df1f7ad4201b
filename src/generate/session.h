// The inside of a generator and of its sessions, for whatever draws from several of them together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "generate/drawing.h"
#include "generate/prompt_cache.h"
#include "generate/state_file.h"
#include "rwkvx/generate/generator.h"
#include "rwkvx/generate/language_model.h"

namespace rwkvx {

struct Generator::Impl {
  Impl(const std::filesystem::path& path, const GeneratorOptions& options);
  static Impl& of(Generator& generator) { return *generator.impl_; }
  StateOwner owner() const { return {hash, tokenizer->hash(), rows}; }
  // The tokens that are never drawn: those without a text, and those that the settings rule out.
  // Throws ConfigError for ids outside the vocabulary and where no token is left.
  std::vector<TokenId> banned(const GenerateConfig& config) const;
  // The state of a text that begins.
  std::unique_ptr<SequenceState> start() const;
  // Feeds `tokens` and writes the natural-log loss of each of `next`, the token after each of them.
  void losses(std::span<const TokenId> tokens, std::span<const TokenId> next, SequenceState& state,
              std::span<double> losses) const;
  // Of one sequence, with the logits after it.
  std::int64_t state_bytes() const;

  std::filesystem::path path;
  nlohmann::json document;
  std::unique_ptr<LanguageModel> model;
  std::unique_ptr<Tokenizer> tokenizer;
  std::string hash;
  std::optional<PlainState> initial;  // where an adapter sets it
  std::vector<StateRow> rows;         // of a state
  std::vector<TokenId> silent;        // ids within the vocabulary that stand for no text
  std::optional<PromptCache> cache;

 private:
  // The tokens whose text holds one of these texts; those of the last call are kept.
  const std::vector<TokenId>& holding(const std::vector<std::string>& texts) const;
  mutable std::vector<std::string> held_texts_;
  mutable std::vector<TokenId> holding_;
};

struct Session::Impl {
  explicit Impl(Generator::Impl& generator);
  static Impl& of(Session& session) { return *session.impl_; }

  // Feeds a text in pieces: begins, then as long as feed_some() says that there is more. The pieces
  // are those that a prefill makes anyway. Both throw Interrupted where a signal came.
  void begin_feed(std::string_view text, ShowPromptToken show, std::int64_t top_logprobs);
  bool feed_some();
  std::int64_t left_to_feed() const {
    return static_cast<std::int64_t>(feeding.ids.size() - feeding.done);
  }
  // Feeds the last drawn token, if that has not happened.
  void settle();
  // The same, and a token drawn from what follows, where the model draws.
  TokenLogprob settle_and_draw(const DrawRequest& request);
  // The same where the model was given the token together with those of other sessions.
  void note_fed();

  Generator::Impl& generator;
  std::unique_ptr<SequenceState> state;
  std::vector<float> logits;  // after the last fed token
  std::optional<TokenId> pending;
  std::int64_t tokens = 0;
  std::int64_t fed = 0;  // tokens of the last feed()
  std::string text_hash;
  DrawingState text;

 private:
  struct Feeding {
    std::vector<TokenId> ids;
    std::size_t done = 0;
    bool cached = false;
    ShowPromptToken show;
    std::int64_t top_logprobs = 0;
    TextStream stream{{}};  // of what is shown
    bool at_start = true;
  };
  void note(std::span<const TokenId> ids);
  void show_token(std::size_t place, std::span<const float> before);
  Feeding feeding;
};

// A continuation that a session is drawing.
class SessionDraw {
 public:
  // The session must outlive this.
  SessionDraw(Session::Impl& session, const GenerateConfig& config, const DrawOptions& options);
  // As those of Drawing; the logits (V) are those after the session's last token, and the one that
  // is appended becomes the session's pending one.
  void choose(std::span<const float> logits);
  bool requests() const { return !takes_back_ && drawing_.requests(); }
  DrawRequest request() { return drawing_.request(); }
  void choose(const TokenLogprob& drawn) { drawing_.choose(drawn); }
  bool append(std::span<const float> logits, const ShowToken& show);
  // Gives the session what the continuation leaves to the next one.
  Continuation finish();
  // As if draw() had been told to stop.
  void end(const std::string& reason) { drawing_.result.ended_by = reason; }

 private:
  // Before a token of which nothing was shown yet: a stop text is taken back.
  struct Before {
    std::size_t bytes;
    DrawingState text;
    std::unique_ptr<SequenceState> state;
    std::vector<float> logits;
    std::int64_t tokens;
    std::string text_hash;
  };
  Session::Impl& session_;
  Drawing drawing_;
  bool hold_, takes_back_, draws_;
  Before before_{};  // the token that was chosen
  std::deque<Before> unshown_;
};

// Continuations of several sessions that are drawn together, a token of each at a time. What one
// gets does not depend on the others.
class SessionBatch {
 public:
  struct Member {
    std::int64_t number;
    std::unique_ptr<Session> session;
    std::unique_ptr<SessionDraw> draw;
    ShowToken show;
    bool more = true;
    std::exception_ptr error{};  // why its last token could not be drawn
  };
  explicit SessionBatch(Generator::Impl& generator) : generator_(generator) {}
  std::size_t size() const { return members_.size(); }
  std::vector<Member>& members() { return members_; }
  // Draws the first token of a session that was fed; config.max_new_tokens must not be 0. A
  // continuation that ends with it is ended() at the next step.
  void add(Member member);
  // Feeds the last tokens and draws the next, for all members that have not ended.
  void step();
  // Takes out those that ended, in order.
  std::vector<Member> ended();

 private:
  // Calls run(), whose errors are the member's, but for those of the output.
  template <class Run>
  static void guarded(Member& member, const Run& run);
  // Appends what the members chose, in order; `logits` (members, V) where they chose from them.
  void append(const std::vector<Member*>& members, std::span<const float> logits);
  Generator::Impl& generator_;
  std::vector<Member> members_;
  std::vector<float> logits_;
};

}  // namespace rwkvx

// Requests in, events out, against what one text alone gives.
#include "rwkvx/generate/serve.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <condition_variable>
#include <csignal>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "generate/line_queue.h"
#include "generate/session.h"
#include "rwkvx/base/interrupt.h"
#include "support/random_model.h"

namespace rwkvx {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// A server on the other end of a pipe.
class Serving {
 public:
  Serving(Generator& generator, ServeOptions options) {
    EXPECT_EQ(::pipe(ends_), 0);
    options.write_line = [this](std::string_view line) {
      EXPECT_EQ(line.find('\n'), line.size() - 1);
      const std::lock_guard lock(mutex_);
      events_.push_back(json::parse(line));  // strict: UTF-8, one value
      came_.notify_all();
      return !closed_;
    };
    thread_ = std::thread([this, &generator, options] { serve(generator, options, ends_[0]); });
  }
  ~Serving() {
    if (thread_.joinable()) finish();
    ::close(ends_[0]);
  }
  void send(const std::string& text) {
    for (std::string_view rest = text; !rest.empty();) {
      const auto count = ::write(ends_[1], rest.data(), rest.size());
      ASSERT_GT(count, 0);
      rest.remove_prefix(static_cast<std::size_t>(count));
    }
  }
  void send(const json& request) { send(request.dump() + "\n"); }
  // The first event from `from` on that `fits`; waits for it.
  template <class Fits>
  json wait(const Fits& fits) {
    std::unique_lock lock(mutex_);
    json found;
    const bool came = came_.wait_for(lock, std::chrono::seconds(60), [&] {
      for (; looked_at_ < events_.size(); ++looked_at_)
        if (fits(events_[looked_at_])) {
          found = events_[looked_at_++];
          return true;
        }
      return false;
    });
    EXPECT_TRUE(came);
    return found;
  }
  json wait_for(const std::string& event) {
    return wait([&](const json& one) { return one["event"] == event; });
  }
  json ask(const json& request) {
    send(request);
    return wait([&](const json& one) {
      return (one["event"] == "end" || one["event"] == "error") &&
             (!one.contains("id") || one["id"] == request["id"]);
    });
  }
  // Nobody reads from the next event on.
  void close_output() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  // Ends the input; all events.
  std::vector<json> finish() {
    ::close(ends_[1]);
    thread_.join();
    return events_;
  }

 private:
  int ends_[2];
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable came_;
  std::vector<json> events_;
  std::size_t looked_at_ = 0;
  bool closed_ = false;
};

ServeOptions options_of(std::int64_t slots = 4) {
  ServeOptions options;
  options.settings.max_new_tokens = 30;
  options.slots = slots;
  return options;
}

// The text of a request's events.
std::string text_of(const std::vector<json>& events, const json& id) {
  std::string text;
  for (const auto& one : events)
    if (one.value("id", json()) == id && one["event"] != "prompt_token")
      text += one.value("text", "");
  return text;
}

json end_of(const std::vector<json>& events, const json& id) {
  json found;
  for (const auto& one : events)
    if (one.value("id", json()) == id && (one["event"] == "end" || one["event"] == "error")) {
      EXPECT_TRUE(found.is_null()) << "two ends of " << id;
      found = one;
    }
  return found;
}

TEST(Serve, ATextIsThatOfTheSessionAloneWhateverRunsBeside) {
  const RandomModel made;
  std::string long_prompt;
  for (int i = 0; i < 300; ++i) long_prompt += "bird " + std::to_string(i);
  std::vector<json> requests;
  std::map<std::string, std::string> wanted;
  for (int i = 0; i < 14; ++i) {
    GenerateConfig config;
    config.seed = i;
    config.max_new_tokens = i == 3 ? 0 : 5 + 7 * (i % 5);
    config.temperature = 0.5 + 0.1 * i;
    if (i % 3 == 1) config.stop = {"a", "q"};
    if (i % 4 == 2) config.repetition_penalty = 1.3;
    if (i % 5 == 4) config.bias = {"101=4.5", "102=-inf"}, config.ignore_end = true;
    if (i % 5 == 3) config.prefix = "東京 and";
    const std::string prompt = i == 5 ? "" : i % 6 == 2 ? long_prompt : "fox " + std::to_string(i);
    json request = config_to_json(config);
    request["id"] = "r" + std::to_string(i);
    request["prompt"] = prompt;
    if (i % 5 == 4) request["bias"] = {{"101", 4.5}, {"102", "-inf"}};
    requests.push_back(request);
    Session session(*made.generator);
    session.feed(prompt);
    wanted[request["id"]] = session.draw(config).text;
  }
  for (const std::int64_t slots : {1, 3, 16}) {
    Serving server(*made.generator, options_of(slots));
    for (std::size_t i = 0; i < requests.size(); ++i) {
      auto request = requests[i];
      request["stream"] = i % 2 == 0;
      server.send(request);
    }
    const auto events = server.finish();
    EXPECT_EQ(events.front()["event"], "ready");
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const auto& id = requests[i]["id"];
      const auto end = end_of(events, id);
      ASSERT_EQ(end["event"], "end") << end;
      EXPECT_EQ(i % 2 == 0 ? text_of(events, id) : end["prediction"].get<std::string>(), wanted[id])
          << id << " slots " << slots;
    }
  }
}

TEST(Serve, TakesRequestsWhileOthersAreDecoded) {
  const RandomModel made;
  Serving server(*made.generator, options_of());
  server.send(json{{"id", 1}, {"prompt", "a"}, {"max_new_tokens", 1000000}, {"ignore_end", true}});
  server.wait_for("token");
  const auto second = server.ask({{"id", 2}, {"prompt", "b"}});
  EXPECT_EQ(second["event"], "end");
  server.send(json{{"cancel", 1}});
  const auto first = server.wait_for("end");
  EXPECT_EQ(first["id"], 1);
  EXPECT_EQ(first["ended_by"], "cancel");
  EXPECT_GT(first["tokens"], 0);
  EXPECT_EQ(server.ask({{"id", 1}, {"prompt", "again"}})["event"], "end");  // the id is free
}

TEST(Serve, CancelsWhatWaitsForASlot) {
  const RandomModel made;
  Serving server(*made.generator, options_of(1));
  for (const int id : {1, 2})
    server.send(
        json{{"id", id}, {"prompt", "a"}, {"max_new_tokens", 1000000}, {"ignore_end", true}});
  server.wait_for("token");
  server.send(json{{"cancel", 2}});
  EXPECT_EQ(server.wait_for("end")["id"], 2);
  server.send(json{{"cancel", 1}});
  EXPECT_EQ(server.wait_for("end")["id"], 1);
  server.send(json{{"cancel", 1}});
  EXPECT_THAT(server.wait_for("error")["error"], HasSubstr("has not ended, got 1"));
}

TEST(Serve, KeptStatesResumeAsFilesDo) {
  const RandomModel made;
  GenerateConfig config;
  config.max_new_tokens = 17;
  config.seed = 3;
  config.stop = {"zz", "\n"};
  std::vector<std::string> wanted;
  for (int piece = 0; piece < 3; ++piece) {
    Session session(*made.generator);
    if (piece > 0) session.load(made.folder / "state");
    const auto before = piece == 2 ? session.release_held() : std::string();
    session.feed(piece == 0 ? "once" : piece == 1 ? "" : " and");
    wanted.push_back(before + session.draw(config, {}, {.hold = true}).text);
    session.save(made.folder / "state");
  }
  Serving server(*made.generator, options_of());
  json request = config_to_json(config);
  request.update({{"id", 0}, {"prompt", "once"}, {"keep", "s"}, {"stream", false}});
  EXPECT_EQ(server.ask(request)["prediction"], wanted[0]);
  request.update({{"id", 1}, {"prompt", ""}, {"state", "s"}, {"keep", "t"}});
  EXPECT_EQ(server.ask(request)["kept"], "t");
  EXPECT_EQ(server.ask(request)["prediction"], wanted[1]);  // s is still the same
  request.update({{"id", 2}, {"prompt", " and"}, {"state", "t"}, {"keep", "s"}});
  EXPECT_EQ(server.ask(request)["prediction"], wanted[2]);

  server.send(json{{"list", true}, {"id", "q"}});
  const auto list = server.wait_for("states");
  EXPECT_EQ(list["id"], "q");
  ASSERT_EQ(list["states"].size(), 2u);
  EXPECT_EQ(list["states"][0]["state"], "s");
  EXPECT_GT(list["states"][0]["tokens"], list["states"][1]["tokens"]);
  server.send(json{{"forget", "s"}});
  EXPECT_EQ(server.wait_for("forgotten")["state"], "s");
  request.update({{"id", 3}, {"state", "s"}});
  EXPECT_THAT(server.ask(request)["error"], HasSubstr("name of a kept state, got \"s\""));
  server.send(json{{"forget", "tt"}});
  EXPECT_THAT(server.wait_for("error")["error"], HasSubstr("did you mean \"t\""));
}

TEST(Serve, LimitsTheKeptStates) {
  const RandomModel made;
  auto options = options_of();
  options.keep_bytes = 2 * Generator::Impl::of(*made.generator).state_bytes();
  Serving server(*made.generator, options);
  for (const auto* name : {"a", "b", "a"})
    EXPECT_EQ(server.ask({{"id", name}, {"prompt", "x"}, {"keep", name}})["event"], "end");
  EXPECT_THAT(server.ask({{"id", 1}, {"prompt", "x"}, {"keep", "c"}})["error"],
              HasSubstr("keep: expected at most 2 states"));
  server.send(json{{"forget", "b"}});
  EXPECT_EQ(server.ask({{"id", 1}, {"prompt", "x"}, {"keep", "c"}})["event"], "end");
}

TEST(Serve, LogprobsAreThoseOfTheSession) {
  const RandomModel made;
  Serving server(*made.generator, options_of());
  const json request = {{"id", 1},           {"prompt", "bird"}, {"prompt_logprobs", true},
                        {"top_logprobs", 2}, {"seed", 4},        {"stream", false}};
  const auto end = server.ask(request);
  ASSERT_EQ(end["prompt_logprobs"].size(), 4u);
  EXPECT_TRUE(end["prompt_logprobs"][0]["logprob"].is_null());
  EXPECT_EQ(end["prompt_logprobs"][3]["top"].size(), 2u);
  std::vector<double> logprobs;
  Session session(*made.generator);
  session.feed("bird", [&](const PromptToken& one) {
    if (one.logprob) logprobs.push_back(*one.logprob);
  });
  GenerateConfig config;
  config.max_new_tokens = 30;
  config.seed = 4;
  session.draw(config, [&](const DrawnToken& one) {
    logprobs.push_back(one.logprob);
    return true;
  });
  std::vector<double> found;
  for (const auto* list : {"prompt_logprobs", "token_logprobs"})
    for (const auto& one : end[list])
      if (!one["logprob"].is_null()) found.push_back(one["logprob"]);
  EXPECT_EQ(found, logprobs);
}

TEST(Serve, SurvivesWhatIsNoRequest) {
  const RandomModel made;
  auto options = options_of();
  options.line_bytes = 1000;
  Serving server(*made.generator, options);
  std::int64_t line = 0;
  const auto refused = [&](const std::string& text, const std::string& reason,
                           const json& id = nullptr) {
    ++line;
    server.send(text + "\n");
    const auto event = server.wait([](const json& one) { return one["event"] != "ready"; });
    EXPECT_EQ(event["event"], "error") << text;
    EXPECT_THAT(event.value("error", ""), HasSubstr(reason)) << text.substr(0, 100);
    EXPECT_EQ(event["line"], line);
    EXPECT_EQ(event.value("id", json()), id) << text;
  };
  refused("nonsense", "not valid JSON");
  refused(R"({"id":1,"prompt":"a")", "not valid JSON");
  refused("{\"id\":1,\"prompt\":\"\xff\"}", "not valid JSON");
  refused(R"({"id":1,"prompt":"\ud800"})", "not valid JSON");
  refused(std::string("{\"id\":1,\"prompt\":\"\0\"}", 21), "not valid JSON");
  refused("[1]", "expected a JSON object, got [1]");
  refused("null", "expected a JSON object");
  refused(std::string(500, '['), "nested at most");
  refused(R"({"id":1,"prompt":")" + std::string(100000, 'a') + "\"}", "at most 1,000 bytes");
  refused(R"({"id":1,"prompt":"a","seed":1e999})", "out of range");
  refused("{}", "expected one of the members \"prompt\", \"cancel\"");
  refused(R"({"id":7})", "got none", 7);
  refused(R"({"id":7,"prompt":"a","cancel":1})", "got \"cancel\", \"prompt\"", 7);
  refused(R"({"id":7,"promt":"a"})", "did you mean \"prompt\"", 7);
  refused(R"({"id":7,"prompt":"a","max_tokens":3})", "did you mean \"max_new_tokens\"", 7);
  refused(R"({"prompt":"a"})", "expected a member \"id\"");
  refused(R"({"id":1.5,"prompt":"a"})", "id: expected a text, got 1.5");
  refused(R"({"id":"","prompt":"a"})", "id: expected a name of 1 to 256 bytes");
  refused(R"({"id":"x","prompt":["a"]})", "prompt: expected a text", "x");
  refused(R"({"id":"x","prompt":"a","stream":1})", "stream: expected true or false", "x");
  refused(R"({"id":"x","prompt":"a","top_k":"3"})", "top_k: expected a whole number", "x");
  refused(R"({"id":"x","prompt":"a","top_p":7})", "top_p: expected", "x");
  refused(R"({"id":"x","prompt":"a","seed":1.5})", "seed: expected a whole number", "x");
  refused(R"({"id":"x","prompt":"a","top_logprobs":-1})", "top_logprobs: expected at least 0", "x");
  refused(R"({"id":"x","prompt":"a","samplers":"tmperature"})", "did you mean", "x");
  refused(R"({"id":"x","prompt":"a","ban_id":[300]})", "ban_id: expected a token id from 0", "x");
  refused(R"({"id":"x","prompt":"a","ban_id":[1.5]})", "ban_id: expected a whole number", "x");
  refused(R"({"id":"x","prompt":"a","bias":{"5":"x"}})", "bias: expected ID=X", "x");
  refused(R"({"id":"x","prompt":"a","bias":{"5":null}})", "bias: expected a number", "x");
  refused(R"({"id":"x","prompt":"a","bias":7})", "bias: expected a list of texts", "x");
  refused(R"({"id":"x","prompt":"a","keep":""})", "keep: expected a name", "x");
  refused(R"({"id":"x","prompt":"a","state":"s"})", "state: expected the name of a kept", "x");
  refused(R"({"id":"x","cancel":"y"})", "cancel: expected the id", "x");
  refused(R"({"id":"x","cancel":{"a":[]}})", "cancel: expected the id", "x");
  refused(R"({"list":false})", "list: expected true");
  refused(R"({"list":true,"keep":"a"})", "\"keep\" does not go with \"list\"");
  server.send(std::string("  \r\n\n"));  // no requests
  EXPECT_EQ(server.ask({{"id", "x"}, {"prompt", "a"}})["event"], "end");
}

TEST(Serve, RefusesAnIdThatIsInUse) {
  const RandomModel made;
  Serving server(*made.generator, options_of());
  const json request = {
      {"id", "a"}, {"prompt", "x"}, {"max_new_tokens", 1000000}, {"ignore_end", true}};
  server.send(request);
  server.send(request);
  EXPECT_THAT(server.wait_for("error")["error"], HasSubstr("has not ended"));
  server.send(json{{"cancel", "a"}});
  EXPECT_EQ(server.wait_for("end")["ended_by"], "cancel");
}

TEST(Serve, ALastLineNeedsNoBreakAndTheEndOfTheInputEndsAfterTheLastText) {
  const RandomModel made;
  Serving server(*made.generator, options_of());
  server.send(std::string(R"({"id":1,"prompt":"a","max_new_tokens":200,"ignore_end":true})"));
  const auto end = end_of(server.finish(), 1);
  EXPECT_EQ(end["ended_by"], "length");
  EXPECT_EQ(end["tokens"], 200);
}

TEST(Serve, ASignalEndsEachOpenRequest) {
  const RandomModel made;
  const InterruptGuard guard;
  Serving server(*made.generator, options_of(1));
  for (const int id : {1, 2})
    server.send(
        json{{"id", id}, {"prompt", "a"}, {"max_new_tokens", 1000000}, {"ignore_end", true}});
  server.wait_for("token");
  interrupt_by(SIGINT);
  const auto events = server.finish();
  clear_interrupt();
  for (const int id : {1, 2}) EXPECT_EQ(end_of(events, id)["ended_by"], "interrupt") << id;
}

TEST(Serve, EndsWhereNobodyReads) {
  const RandomModel made;
  const InterruptGuard guard;
  Serving server(*made.generator, options_of());
  server.send(json{{"id", 1}, {"prompt", "a"}, {"max_new_tokens", 1000000}, {"ignore_end", true}});
  server.wait_for("token");
  server.close_output();
  const auto count = server.finish().size();  // although the input had not ended
  EXPECT_EQ(interrupt_signal(), SIGPIPE);
  EXPECT_LT(count, 1000000u);
  clear_interrupt();
}

TEST(LineQueue, BoundsWhatItHolds) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  {
    LineQueue reader(ends[0], {.line_bytes = 8, .bytes = 100, .lines = 2});
    const std::string text = "a\n\nlonger than that\nb";
    ASSERT_EQ(::write(ends[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
    ::close(ends[1]);
    const auto wait = std::chrono::seconds(60);
    EXPECT_EQ(reader.next(wait)->text, "a");
    EXPECT_EQ(reader.next(wait)->text, "");
    const auto cut = reader.next(wait);
    EXPECT_TRUE(cut->too_long);
    EXPECT_EQ(cut->text, "longer t");
    EXPECT_EQ(cut->number, 3);
    EXPECT_EQ(reader.next(wait)->text, "b");
    EXPECT_FALSE(reader.next(wait));
    EXPECT_TRUE(reader.ended());
    EXPECT_EQ(reader.error(), "");
  }
  ::close(ends[0]);
  ASSERT_EQ(::pipe(ends), 0);
  { LineQueue waiting(ends[0], {}); }  // goes although nothing came
  ::close(ends[0]);
  ::close(ends[1]);
}

}  // namespace
}  // namespace rwkvx

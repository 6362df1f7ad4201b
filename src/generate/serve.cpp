#include "rwkvx/generate/serve.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <deque>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "generate/line_queue.h"
#include "generate/session.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/nearest.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/text_file.h"
#include "rwkvx/generate/events.h"

namespace rwkvx {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kLongestName = 256;               // bytes of an id or of a state's name
constexpr std::size_t kWaitingBytes = 64 << 20;         // of prompts that wait for a slot
constexpr int kLinesAtOnce = 64;                        // taken between two steps
constexpr auto kIdle = std::chrono::milliseconds(100);  // between two looks at signals

// A request to continue a text.
struct Work {
  json id;
  std::string prompt, state, keep;
  bool stream = true, prompt_logprobs = false;
  std::int64_t top_logprobs = 0;
  GenerateConfig config;
  std::shared_ptr<const Session> start;  // the kept state

  std::unique_ptr<Session> session;
  std::string before;  // text that the state held
  Clock::time_point last;
  ordered_json prompt_tokens = ordered_json::array(), tokens = ordered_json::array();

  double milliseconds() {
    const auto now = Clock::now();
    return std::chrono::duration<double, std::milli>(now - std::exchange(last, now)).count();
  }
};

std::string one_of(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "\"" : ", \"") + name + "\"";
  return text;
}

std::string read_name(const json& value, const char* member) {
  auto name = read_text(value, member, "");
  if (name.empty() || name.size() > kLongestName)
    throw ConfigError(member, "expected a name of 1 to " + std::to_string(kLongestName) +
                                  " bytes, got " + std::to_string(name.size()));
  return name;
}

std::int64_t read_count(const json& value, const char* member) {
  const auto count = read_integer(value, member);
  if (count < 0) throw ConfigError(member, "expected at least 0, got " + std::to_string(count));
  return count;
}

// [5, "6"] as the texts that the settings have.
json id_texts(const json& value) {
  auto texts = json::array();
  for (const auto& one : value.is_array() ? value : json::array({value})) {
    if (one.is_string())
      texts.push_back(one);
    else
      texts.push_back(std::to_string(read_integer(one, "ban_id")));
  }
  return texts;
}

// {"5": -1.5} as the texts "5=-1.5".
json bias_texts(const json& value) {
  if (!value.is_object()) return value;
  auto texts = json::array();
  for (const auto& [id, bias] : value.items()) {
    if (!bias.is_string()) read_number(bias, "bias");
    texts.push_back(id + "=" + (bias.is_string() ? bias.get<std::string>() : bias.dump()));
  }
  return texts;
}

// What the setting of this name is called, as others may know it by an earlier one.
std::string current_name(const std::string& name) {
  std::string current = name;
  for_each_field<GenerateConfig>([&](const auto& field) {
    if (field.old_name == name) current = field.name;
  });
  return current;
}

class Server {
 public:
  Server(Generator& generator, const ServeOptions& options, int input)
      : generator_(generator),
        inside_(Generator::Impl::of(generator)),
        options_(options),
        reader_(input, {options.line_bytes, 2 * options.line_bytes, kLinesAtOnce}),
        batch_(inside_),
        settings_(field_names<GenerateConfig>()) {}

  void run() {
    write({{"event", "ready"},
           {"model", generator_.path().string()},
           {"vocab_size", generator_.tokenizer().vocab_size()},
           {"batch", slots()}});
    while (!interrupted() && (!works_.empty() || !reader_.ended())) {
      take_lines();
      admit();
      try {
        feed();
      } catch (const Interrupted&) {
        break;
      }
      batch_.step();
      collect();
    }
    if (interrupted()) give_up();
    if (const auto error = reader_.error(); !error.empty())
      throw FileError("standard input", "cannot be read: " + error);
  }

 private:
  std::size_t slots() const {
    return static_cast<std::size_t>(std::max<std::int64_t>(1, options_.slots));
  }

  // Requests.

  void take_lines() {
    for (int taken = 0; taken < kLinesAtOnce && !interrupted(); ++taken) {
      if (waiting_.size() >= static_cast<std::size_t>(options_.waiting) ||
          (!waiting_.empty() && waiting_bytes_ >= kWaitingBytes))
        return;
      const auto line =
          reader_.next(works_.empty() && taken == 0 ? kIdle : std::chrono::milliseconds(0));
      if (!line) return;
      take(*line);
    }
  }

  void take(const ReadLine& line) {
    std::string_view text(line.text);
    if (line.number == 1 && text.starts_with(kByteOrderMark))
      text.remove_prefix(kByteOrderMark.size());
    if (!line.too_long && text.find_first_not_of(" \t\r") == text.npos) return;
    json id;
    try {
      if (line.too_long)
        throw DataError("the line", "expected at most " +
                                        count_text(static_cast<std::int64_t>(options_.line_bytes)) +
                                        " bytes, got more");
      answer(parse_foreign_json(text, "the line"), id);
    } catch (const FileError&) {  // of the output
      throw;
    } catch (const Error& error) {
      ordered_json event = {{"event", "error"}};
      if (!id.is_null()) event["id"] = id;
      event["line"] = line.number;
      event["error"] = error.what();
      write(event);
    }
  }

  // `id` is that of the request as soon as it is known.
  void answer(const json& request, json& id) {
    if (!request.is_object())
      throw DataError("the line", "expected a JSON object, got " + json_shown(request));
    if (request.contains("id")) {
      const auto& given = request["id"];
      if (!given.is_number_integer()) read_name(given, "id");
      id = given;
    }
    static const std::vector<std::string> kinds = {"prompt", "cancel", "forget", "list"};
    static const std::vector<std::string> own = {"state", "keep", "stream", "top_logprobs",
                                                 "prompt_logprobs"};
    auto known = kinds;
    known.insert(known.end(), own.begin(), own.end());
    known.insert(known.end(), settings_.begin(), settings_.end());
    known.emplace_back("id");
    std::vector<std::string> found;
    for (const auto& [name, value] : request.items()) {
      if (std::find(known.begin(), known.end(), name) == known.end())
        throw DataError("the request", "unknown member \"" + name + "\"" +
                                           did_you_mean(current_name(name), known));
      if (std::find(kinds.begin(), kinds.end(), name) != kinds.end()) found.push_back(name);
    }
    if (found.size() != 1)
      throw DataError("the request", "expected one of the members " + one_of(kinds) + ", got " +
                                         (found.empty() ? "none" : one_of(found)));
    const auto& kind = found.front();
    if (kind == "prompt") return begin(request, id);
    for (const auto& [name, value] : request.items())
      if (name != kind && name != "id")
        throw DataError("the request", "\"" + name + "\" does not go with \"" + kind + "\"");
    const auto& value = request[kind];
    if (kind == "cancel") return cancel(value);
    if (kind == "forget") return forget(read_name(value, "forget"), id);
    if (!read_flag(value, "list")) throw DataError("list", "expected true, got false");
    list(id);
  }

  void begin(const json& request, const json& id) {
    if (id.is_null())
      throw DataError("the request", "expected a member \"id\", a text or a whole number");
    if (numbers_.contains(id.dump()))
      throw DataError("id", "is that of a request that has not ended");
    Work work;
    work.id = id;
    work.prompt = read_text(request["prompt"], "prompt", "");
    if (request.contains("stream")) work.stream = read_flag(request["stream"], "stream");
    work.top_logprobs = request.contains("top_logprobs")
                            ? read_count(request["top_logprobs"], "top_logprobs")
                            : options_.top_logprobs;
    work.prompt_logprobs = request.contains("prompt_logprobs")
                               ? read_flag(request["prompt_logprobs"], "prompt_logprobs")
                               : options_.prompt_logprobs;
    json settings = config_to_json(options_.settings);
    for (const auto& name : settings_)
      if (request.contains(name)) {
        const auto& value = request[name];
        settings[name] = name == "ban_id" ? id_texts(value)
                         : name == "bias" ? bias_texts(value)
                                          : value;
      }
    work.config = config_from_json<GenerateConfig>(settings, "");
    generator_.check(work.config);
    if (request.contains("state")) {
      work.state = read_name(request["state"], "state");
      const auto kept = kept_.find(work.state);
      if (kept == kept_.end()) refuse_state("state", work.state);
      work.start = kept->second;
    }
    if (request.contains("keep")) {
      work.keep = read_name(request["keep"], "keep");
      make_room(work.keep);
    }
    const auto number = next_++;
    numbers_[id.dump()] = number;
    waiting_bytes_ += work.prompt.size();
    waiting_.push_back(number);
    works_.emplace(number, std::move(work));
  }

  [[noreturn]] void refuse_state(const char* member, const std::string& name) const {
    for (const auto& [number, work] : works_)
      if (work.keep == name)
        throw DataError(member, "expected the name of a kept state, got \"" + name +
                                    "\", whose request has not ended; wait for its end");
    std::vector<std::string> names;
    for (const auto& [one, session] : kept_) names.push_back(one);
    throw DataError(member, "expected the name of a kept state, got \"" + name + "\"" +
                                did_you_mean(name, names));
  }

  // The place is taken when the request comes, so that it is not refused after its work.
  void make_room(const std::string& name) const {
    std::set<std::string> names{name};
    for (const auto& [one, session] : kept_) names.insert(one);
    for (const auto& [number, work] : works_)
      if (!work.keep.empty()) names.insert(work.keep);
    const auto most = options_.keep_bytes / inside_.state_bytes();
    if (static_cast<std::int64_t>(names.size()) > most)
      throw DataError("keep", "expected at most " + count_text(most) + " states (" +
                                  bytes_text(static_cast<double>(options_.keep_bytes)) +
                                  "), got one more; forget one, or raise --keep-mib");
  }

  void cancel(const json& id) {
    const auto found = numbers_.find(id.dump());
    if (found == numbers_.end())
      throw DataError("cancel",
                      "expected the id of a request that has not ended, got " + json_shown(id));
    end(found->second, "cancel");
  }

  void forget(const std::string& name, const json& id) {
    if (kept_.erase(name) == 0) refuse_state("forget", name);
    ordered_json event = {{"event", "forgotten"}, {"state", name}};
    write(event, id);
  }

  void list(const json& id) {
    auto states = ordered_json::array();
    for (const auto& [name, session] : kept_)
      states.push_back({{"state", name}, {"tokens", session->tokens()}});
    write({{"event", "states"},
           {"states", states},
           {"bytes", inside_.state_bytes() * static_cast<std::int64_t>(kept_.size())},
           {"limit", options_.keep_bytes}},
          id);
  }

  // Decoding.

  void admit() {
    while (!waiting_.empty() && feeding_.size() + batch_.size() < slots()) {
      const auto number = waiting_.front();
      waiting_.pop_front();
      auto& work = works_.at(number);
      waiting_bytes_ -= work.prompt.size();
      work.last = Clock::now();
      work.session =
          std::make_unique<Session>(work.start ? work.start->copy() : Session(generator_));
      work.start.reset();
      // A new text ends what an earlier continuation may have left open.
      if (!work.prompt.empty()) work.before = work.session->release_held();
      ShowPromptToken show;
      if (work.prompt_logprobs)
        show = [this, &work](const PromptToken& one) {
          auto event = prompt_token_event(generator_.tokenizer(), one, work.top_logprobs > 0);
          if (work.stream) return write(event, work.id);
          event.erase("event");
          work.prompt_tokens.push_back(std::move(event));
        };
      Session::Impl::of(*work.session).begin_feed(work.prompt, std::move(show), work.top_logprobs);
      work.prompt = {};
      feeding_.push_back(number);
    }
  }

  // A bounded number of tokens, so that the texts that are being decoded do not wait for a prompt.
  void feed() {
    for (std::int64_t budget = kPromptCacheStep; budget > 0 && !feeding_.empty();) {
      const auto number = feeding_.front();
      feeding_.pop_front();
      auto& session = Session::Impl::of(*works_.at(number).session);
      const auto before = session.left_to_feed();
      const bool more = session.feed_some();
      budget -= std::max<std::int64_t>(1, before - (more ? session.left_to_feed() : 0));
      if (more)
        feeding_.push_back(number);
      else
        begin_drawing(number);
    }
  }

  void begin_drawing(std::int64_t number) {
    auto& work = works_.at(number);
    if (work.stream)
      write(prompt_event(work.session->tokens(), work.milliseconds(), work.before), work.id);
    SessionBatch::Member member;
    member.number = number;
    member.session = std::move(work.session);
    member.draw = std::make_unique<SessionDraw>(Session::Impl::of(*member.session), work.config,
                                                DrawOptions{.keep_text = !work.stream,
                                                            .hold = !work.keep.empty(),
                                                            .top_logprobs = work.top_logprobs});
    const bool logprobs = work.top_logprobs > 0;
    if (work.stream)
      member.show = [this, &work, logprobs](const DrawnToken& one) {
        write(token_event(generator_.tokenizer(), one, work.milliseconds(), logprobs), work.id);
        return true;
      };
    else if (logprobs)
      member.show = [this, &work](const DrawnToken& one) {
        work.tokens.push_back(token_logprob_json(generator_.tokenizer(), one));
        return true;
      };
    if (work.config.max_new_tokens > 0)
      batch_.add(std::move(member));
    else
      finish(std::move(member));
  }

  void collect() {
    for (auto& member : batch_.ended()) finish(std::move(member));
  }

  void finish(SessionBatch::Member member) {
    auto& work = works_.at(member.number);
    if (member.error) {
      ordered_json event = {{"event", "error"}};
      try {
        std::rethrow_exception(member.error);
      } catch (const Error& error) {
        event["error"] = error.what();
      }
      write(event, work.id);
      return remove(member.number);
    }
    const auto result = member.draw->finish();
    const auto rest = work.keep.empty() ? member.session->release_held() : std::string();
    auto event = end_event(result, work.stream ? rest : "");
    if (!work.stream) {
      event["prompt_tokens"] = result.prompt_tokens;
      event["prediction"] = work.before + result.text + rest;
      if (work.prompt_logprobs) event["prompt_logprobs"] = std::move(work.prompt_tokens);
      if (work.top_logprobs > 0) event["token_logprobs"] = std::move(work.tokens);
    }
    if (!work.keep.empty() && result.ended_by != "cancel") {
      auto& session = Session::Impl::of(*member.session);
      // They are computed again from the pending token.
      if (session.pending) session.logits = {};
      kept_[work.keep] = std::move(member.session);
      event["kept"] = work.keep;
    }
    write(event, work.id);
    remove(member.number);
  }

  // Ends a request before its time.
  void end(std::int64_t number, const std::string& reason) {
    for (auto& member : batch_.members())
      if (member.number == number) {
        member.draw->end(reason);
        member.more = false;
        return collect();
      }
    if (std::erase(waiting_, number) > 0) waiting_bytes_ -= works_.at(number).prompt.size();
    std::erase(feeding_, number);
    Continuation result;
    result.ended_by = reason;
    write(end_event(result, ""), works_.at(number).id);
    remove(number);
  }

  void give_up() {
    collect();
    while (!works_.empty()) end(works_.begin()->first, "interrupt");
  }

  void remove(std::int64_t number) {
    numbers_.erase(works_.at(number).id.dump());
    works_.erase(number);
  }

  void write(const ordered_json& event, const json& id = {}) {
    ordered_json out;
    for (const auto& [name, value] : event.items()) {
      out[name] = value;
      if (name == "event" && !id.is_null()) out["id"] = id;
    }
    if (interrupt_signal() != SIGPIPE && !options_.write_line(event_line(out)))
      interrupt_by(SIGPIPE);
  }

  Generator& generator_;
  Generator::Impl& inside_;
  const ServeOptions& options_;
  LineQueue reader_;
  SessionBatch batch_;
  std::vector<std::string> settings_;
  std::map<std::int64_t, Work> works_;           // those that have not ended, by number
  std::map<std::string, std::int64_t> numbers_;  // by id, as JSON
  std::deque<std::int64_t> waiting_, feeding_;  // for a slot; in one, with the prompt going through
  std::size_t waiting_bytes_ = 0;               // of prompts
  std::int64_t next_ = 0;
  std::map<std::string, std::shared_ptr<const Session>> kept_;
};

}  // namespace

void serve(Generator& generator, const ServeOptions& options, int input) {
  Server(generator, options, input).run();
}

}  // namespace rwkvx

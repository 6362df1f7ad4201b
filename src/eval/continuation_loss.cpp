#include "rwkvx/eval/continuation_loss.h"

#include <cmath>
#include <deque>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <numbers>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "eval/line_fields.h"
#include "eval/prompt_space.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/statistics.h"
#include "rwkvx/base/utf8.h"
#include "rwkvx/eval/pairs.h"

namespace rwkvx {
namespace {

constexpr std::int64_t kSlots = 32;  // continuations scored together

// What is left of an item once its request was made.
struct Open {
  std::string id, where;
  std::uint64_t line;
  std::vector<std::int64_t> bytes;  // of each continuation
};

// Scores what `read` makes of each line.
ContinuationLoss score_lines(
    Generator& generator, const std::filesystem::path& path, ContinuationTokens tokens,
    const std::filesystem::path& details, bool quiet,
    const std::function<LikelihoodRequest(const JsonLine&, const std::string& where)>& read) {
  const InterruptGuard guard;
  std::int64_t total = 0;
  for (LineReader counting(path); counting.skip();) ++total;
  LineReader reader(path);
  std::unique_ptr<AtomicFile> file;
  if (!details.empty()) file = std::make_unique<AtomicFile>(details);
  ContinuationLoss sums;
  CompensatedSum nats;
  std::deque<Open> open;
  Progress bar("scoring", total, quiet);
  const auto next = [&]() -> std::optional<LikelihoodRequest> {
    for (std::string text; text.clear(), reader.append(text);) {
      if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
      const std::string where = path.string() + ":" + std::to_string(reader.lines());
      JsonLine line;
      read_json_line(text, where, line);
      auto request = read(line, where);
      open.push_back({id_of(line), where, reader.lines(), {}});
      for (const auto& one : request.continuations)
        open.back().bytes.push_back(static_cast<std::int64_t>(one.size()));
      if (tokens == ContinuationTokens::kJoint) move_space(request);
      return request;
    }
    return std::nullopt;
  };
  const auto done = [&](std::int64_t, const std::vector<Likelihood>& found) {
    const auto item = std::move(open.front());
    open.pop_front();
    auto logprobs = nlohmann::json::array(), counts = nlohmann::json::array(),
         greedy = nlohmann::json::array();
    for (std::size_t k = 0; k < found.size(); ++k) {
      const auto& one = found[k];
      if (one.tokens == 0)
        throw DataError(item.where,
                        "what follows the prompt has no token of its own; set "
                        "--continuation-tokens apart");
      if (!std::isfinite(one.logprob))
        throw Error(item.where, "the model's loss on this line is not finite");
      ++sums.continuations;
      sums.tokens += one.tokens;
      sums.bytes += item.bytes[k];
      sums.merged += one.merged ? 1 : 0;
      sums.greedy += one.greedy ? 1 : 0;
      nats.add(-one.logprob);
      logprobs.push_back(one.logprob);
      counts.push_back(one.tokens);
      greedy.push_back(one.greedy);
    }
    if (file) {
      const nlohmann::ordered_json rest = {
          {"logprobs", logprobs}, {"tokens", counts}, {"bytes", item.bytes}, {"greedy", greedy}};
      file->write(replace_invalid_utf8("{\"line\":" + std::to_string(item.line) +
                                       (item.id.empty() ? "" : ",\"id\":" + item.id) + "," +
                                       rest.dump().substr(1) + "\n"));
    }
    bar.update(++sums.items);
  };
  continuation_likelihoods(generator, tokens, kSlots, next, done);
  bar.finish();
  if (sums.items == 0) throw DataError(path.string(), "expected at least one line, got none");
  sums.nats = nats.value();
  if (file) file->commit();
  return sums;
}

}  // namespace

double ContinuationLoss::loss() const { return nats / static_cast<double>(tokens); }
double ContinuationLoss::bits_per_byte() const {
  return nats / (std::numbers::ln2 * static_cast<double>(bytes));
}
double ContinuationLoss::nats_per_continuation() const {
  return nats / static_cast<double>(continuations);
}
ShareInterval ContinuationLoss::greedy_share() const {
  return wilson_interval(greedy, continuations);
}

ContinuationLoss reference_loss(Generator& generator, const std::filesystem::path& prompts,
                                const PromptFields& fields, ContinuationTokens tokens,
                                const std::filesystem::path& details, bool quiet) {
  return score_lines(
      generator, prompts, tokens, details, quiet,
      [&](const JsonLine& line, const std::string& where) {
        LikelihoodRequest request;
        request.prompt = text_of(field_of(line, fields.prompt, where), fields.prompt, where);
        const auto reference = field_of(line, fields.reference, where);
        std::vector<std::string_view> items = {reference};
        if (json_kind(reference) == JsonKind::kArray) json_items(reference, items);
        for (const auto item : items) {
          request.continuations.push_back(text_of(item, fields.reference, where));
          if (request.continuations.back().empty())
            throw DataError(where, "field \"" + fields.reference +
                                       "\": expected a reference of at least one character, got an "
                                       "empty string");
        }
        if (items.empty())
          throw DataError(where, "field \"" + fields.reference +
                                     "\": expected at least one reference, got an empty array");
        return request;
      });
}

ContinuationLoss last_word_loss(Generator& generator, const std::filesystem::path& texts,
                                const std::string& field, ContinuationTokens tokens,
                                const std::filesystem::path& details, bool quiet) {
  return score_lines(generator, texts, tokens, details, quiet,
                     [&](const JsonLine& line, const std::string& where) {
                       const auto text = text_of(field_of(line, field, where), field, where);
                       const auto blank = text.rfind(' ');
                       if (blank == std::string::npos || blank == 0 || blank + 1 == text.size())
                         throw DataError(where, "field \"" + field +
                                                    "\": expected a text of two or more words that "
                                                    "ends with one");
                       return LikelihoodRequest{text.substr(0, blank), {text.substr(blank)}};
                     });
}

}  // namespace rwkvx

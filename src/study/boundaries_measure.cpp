#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/data/token_file.h"
#include "rwkvx/eval/pairs.h"
#include "rwkvx/metrics/paired_test.h"
#include "rwkvx/study/borders.h"
#include "rwkvx/study/gates.h"
#include "rwkvx/study/names.h"
#include "study/probes.h"

namespace rwkvx {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr const char* kLevels[] = {"", "word", "phrase", "sentence", "paragraph"};
constexpr std::int64_t kReach = 128;    // bytes between an end and what it is compared with
constexpr std::int64_t kContext = 128;  // tokens before one whose context is changed

struct Document {
  std::string text;
  std::vector<Boundary> boundaries;
};

// The documents of the test text up to `bytes` bytes in all. Stories have their ends written down.
std::vector<Document> probe_documents(const DataSet& data, const DataSetConfig& config,
                                      std::int64_t bytes) {
  const auto text = read_file(data.test());
  const std::string separator = DataConfig().separator + "\n";
  std::vector<Document> documents;
  std::int64_t left = bytes;
  if (config.tells_stories()) {
    LineReader reader(data.folder / "synth" / "boundaries.jsonl");
    for (std::string line; left > 0 && (line.clear(), reader.append(line));) {
      const auto where = reader.path().string() + ":" + std::to_string(reader.lines());
      const auto value = parse_foreign_json(line, where);
      const JsonObject item(value, where);
      const auto begin = static_cast<std::size_t>(item.integer("offset"));
      if (begin > text.size()) throw DataError(where, "has an offset after the end of the text");
      Document document;
      document.text = text.substr(begin, text.find(separator, begin) - begin);
      const char* const names[] = {"words", "phrases", "sentences", "paragraphs"};
      for (int kind = 0; kind < 4; ++kind)
        for (const auto& end : item.array(names[kind])) {
          if (!end.is_number_integer())
            throw DataError(where, "expected byte ends, got " + json_shown(end));
          document.boundaries.push_back(
              {static_cast<Boundary::Kind>(kind), end.get<std::int64_t>()});
        }
      left -= static_cast<std::int64_t>(document.text.size());
      documents.push_back(std::move(document));
    }
    return documents;
  }
  for (std::size_t begin = 0; begin < text.size() && left > 0;) {
    const auto end = std::min(text.find(separator, begin), text.size());
    Document document;
    document.text = text.substr(begin, std::min(end - begin, static_cast<std::size_t>(left)));
    document.boundaries = natural_boundaries(document.text);
    left -= static_cast<std::int64_t>(document.text.size());
    begin = end + separator.size();
    if (!document.text.empty()) documents.push_back(std::move(document));
  }
  return documents;
}

// What is compared of one kind of place: the gate (mean over channels and sites) and how much is
// added, at the token there and at its partner.
struct Matched {
  std::vector<double> gate_inside, gate_end, share_inside, share_end;
  std::vector<double> site_sums;  // of differences, by site
};

// Bytes to look at and their partners, by kind of place.
using PlacePairs =
    std::vector<std::pair<std::string, std::vector<std::pair<std::int64_t, std::int64_t>>>>;

PlacePairs places_of(const Document& document, bool story, std::uint64_t seed) {
  PlacePairs places;
  const auto levels = border_levels(document.text, document.boundaries);
  for (int level = 1; level <= 4; ++level)
    places.emplace_back(kLevels[level],
                        matched_positions(document.text, levels, level, kReach, seed));
  if (!story) return places;
  auto names = matched_names(document.text, kReach, seed);
  places.emplace_back("first name", std::move(names.first));
  places.emplace_back("later name", std::move(names.later));
  places.emplace_back("name again", std::move(names.again));
  return places;
}

ordered_json comparison_json(const std::vector<double>& inside, const std::vector<double>& end,
                             const MeasureConfig& measure, std::uint64_t seed) {
  const auto paired = compare_paired(inside, end, measure.resamples, seed);
  return {{"inside", paired.mean_a},     {"end", paired.mean_b}, {"difference", paired.difference},
          {"low", paired.low},           {"high", paired.high},  {"d", paired.effect_size},
          {"p", paired.p_randomization}, {"n", paired.samples}};
}

ordered_json gates_at_places(const TrainedModel& trained, const std::vector<Document>& documents,
                             const std::vector<PlacePairs>& places, const MeasureConfig& measure,
                             std::uint64_t seed) {
  std::map<std::string, Matched> matched;
  std::vector<std::string> names;
  for (std::size_t d = 0; d < documents.size(); ++d) {
    const auto placed = place_tokens(*trained.tokenizer, documents[d].text);
    if (placed.ids.empty()) continue;
    const auto sites = read_gates(*trained.model.ptr(), placed.row());
    names.clear();
    std::vector<at::Tensor> gates, shares;
    for (const auto& site : sites) {
      names.push_back(site.name);
      gates.push_back(site.gate.mean(1));
      shares.push_back(site.share);
    }
    const auto gate = torch::stack(gates).to(torch::kFloat64);            // (sites, T)
    const auto share = torch::stack(shares).mean(0).to(torch::kFloat64);  // (T)
    const auto mean = gate.mean(0);                                       // (T)
    const auto g = gate.accessor<double, 2>();
    const auto m = mean.accessor<double, 1>(), s = share.accessor<double, 1>();
    for (const auto& [kind, pairs] : places[d]) {
      auto& into = matched[kind];
      for (const auto& [end, inside] : pairs) {
        const auto a = placed.at_byte(inside), b = placed.at_byte(end);
        if (a == b) continue;
        into.gate_inside.push_back(m[a]);
        into.gate_end.push_back(m[b]);
        into.share_inside.push_back(s[a]);
        into.share_end.push_back(s[b]);
        into.site_sums.resize(sites.size());
        for (std::size_t k = 0; k < sites.size(); ++k)
          into.site_sums[k] += g[static_cast<int64_t>(k)][b] - g[static_cast<int64_t>(k)][a];
      }
    }
  }
  ordered_json result = ordered_json::object();
  for (const auto& [kind, one] : matched) {
    if (one.gate_end.size() < 8) continue;
    ordered_json row = {{"gate", comparison_json(one.gate_inside, one.gate_end, measure, seed)},
                        {"share", comparison_json(one.share_inside, one.share_end, measure, seed)}};
    for (std::size_t k = 0; k < names.size(); ++k)
      row["sites"][names[k]] = one.site_sums[k] / static_cast<double>(one.gate_end.size());
    result[kind] = row;
  }
  return result;
}

// Tokens whose loss is watched, by what lies among the three tokens before them.
struct Target {
  std::int64_t at;
  std::string group;  // "inside a word", "across a word's end", "across a sentence's end"
};

std::string group_of(const std::string& text) {
  const bool space = text.find_first_of(" \n\t") != std::string::npos;
  if (!space) return "inside a word";
  const auto mark = text.find_first_of(".!?");
  const bool sentence = (mark != std::string::npos && mark + 1 < text.size() &&
                         (text[mark + 1] == ' ' || text[mark + 1] == '\n')) ||
                        text.find("\n") != std::string::npos;
  return sentence ? "across a sentence's end" : "across a word's end";
}

std::vector<Target> choose_targets(const Tokenizer& tokenizer, const std::vector<std::int64_t>& ids,
                                   std::int64_t per_group, std::mt19937_64& random) {
  std::vector<std::int64_t> places;
  for (auto at = kContext + 1; at < static_cast<std::int64_t>(ids.size()); ++at)
    places.push_back(at);
  for (std::size_t i = places.size(); i > 1; --i)
    std::swap(places[i - 1], places[(random() >> 11) % i]);
  std::vector<Target> targets;
  std::map<std::string, std::int64_t> found;
  for (const auto at : places) {
    std::string text;
    bool usable = true;
    for (auto i = at - 3; i < at; ++i) {
      const auto id = static_cast<TokenId>(ids[static_cast<std::size_t>(i)]);
      usable = usable && id != tokenizer.document_end();
      text += tokenizer.piece(id);
    }
    const auto group = group_of(text);
    if (!usable || found[group] >= per_group) continue;
    ++found[group];
    targets.push_back({at, group});
  }
  std::stable_sort(targets.begin(), targets.end(),
                   [](const Target& a, const Target& b) { return a.at < b.at; });
  return targets;
}

// The context of a target, kContext tokens and itself, with the tokens `lag` to lag + 2 before it
// changed.
std::vector<std::int64_t> changed_row(const std::vector<std::int64_t>& ids, std::int64_t at,
                                      const std::string& kind, std::int64_t lag,
                                      std::mt19937_64& random) {
  const auto first = ids.begin() + (at - kContext);
  std::vector<std::int64_t> row(first, first + kContext + 1);
  const auto place = [&](std::int64_t back) -> std::int64_t& {
    return row[static_cast<std::size_t>(kContext - back)];
  };
  if (kind == "shuffled") {
    const auto kept = place(lag + 2);
    place(lag + 2) = place(lag + 1);
    place(lag + 1) = place(lag);
    place(lag) = kept;
  } else if (kind == "deleted") {  // what came before moves up, and one more token comes in
    row.erase(row.begin() + (kContext - lag - 1));
    row.insert(row.begin(), *(first - 1));
  } else if (kind == "replaced") {
    const auto old = place(lag + 1);
    for (int tries = 0; tries < 64 && place(lag + 1) == old; ++tries)
      place(lag + 1) = ids[(random() >> 11) % ids.size()];
  }
  return row;
}

ordered_json perturbed_losses(const std::vector<TrainedModel>& models, const DataSet& data,
                              const MeasureConfig& measure, std::uint64_t seed) {
  const TokenFile tokens(data.folder / "tokens" / "valid");
  const auto count = std::min<std::int64_t>(tokens.size(), 65536);
  std::vector<std::int64_t> ids(static_cast<std::size_t>(count));
  tokens.read(0, count, ids.data());
  std::mt19937_64 random(seed);
  const auto targets =
      choose_targets(*models.front().tokenizer, ids, measure.probe_targets, random);
  const std::pair<std::string, std::int64_t> places[] = {
      {"1 to 3 before", 1}, {"5 to 7 before", 5}, {"33 to 35 before", 33}};
  auto result = ordered_json::array();
  // Last losses of rows, by model.
  const auto last_losses = [&](const std::vector<at::Tensor>& rows, const TrainedModel& trained) {
    std::vector<at::Tensor> parts;
    const auto all = torch::stack(rows);  // (targets, kContext + 1)
    for (int64_t begin = 0; begin < all.size(0); begin += 64)
      parts.push_back(row_losses(*trained.model.ptr(), all.slice(0, begin, begin + 64))
                          .select(1, kContext - 1));
    return torch::cat(parts).to(torch::kFloat64);
  };
  std::vector<at::Tensor> plain;
  for (const auto& target : targets)
    plain.push_back(torch::tensor(changed_row(ids, target.at, "", 1, random), torch::kInt64));
  std::vector<at::Tensor> before;
  for (const auto& trained : models) before.push_back(last_losses(plain, trained));
  for (const auto& [place, lag] : places)
    for (const std::string kind : {"shuffled", "deleted", "replaced"}) {
      std::vector<at::Tensor> rows;
      for (const auto& target : targets)
        rows.push_back(
            torch::tensor(changed_row(ids, target.at, kind, lag, random), torch::kInt64));
      for (std::size_t k = 0; k < models.size(); ++k) {
        const auto change = last_losses(rows, models[k]) - before[k];
        std::map<std::string, std::vector<double>> groups;
        for (std::size_t i = 0; i < targets.size(); ++i)
          groups[lag == 1 ? targets[i].group : "anywhere"].push_back(
              change[static_cast<int64_t>(i)].item<double>());
        for (const auto& [group, changes] : groups)
          result.push_back({{"model", models[k].variant},
                            {"place", place},
                            {"group", group},
                            {"kind", kind},
                            {"changes", changes}});
      }
    }
  return result;
}

}  // namespace

// Gates at the ends of words, phrases, sentences and paragraphs and at the names of stories' people
// beside matched positions; losses of tokens whose context is changed, by model.
ordered_json measure_boundaries(const MeasureInput& input) {
  const auto& measure = input.measure;
  const auto documents = probe_documents(input.data, input.source, measure.probe_bytes);
  std::vector<PlacePairs> places;
  for (std::size_t d = 0; d < documents.size(); ++d)
    places.push_back(places_of(documents[d], input.source.tells_stories(), input.seed + d));
  ordered_json gates = ordered_json::object();
  for (const auto& trained : input.models) {
    const auto& shift = trained.model->config().shift;
    if (shift.enabled() && shift.gate_form() != Gate::kOne)
      gates[trained.variant] = gates_at_places(trained, documents, places, measure, input.seed);
  }
  return {{"gates", gates},
          {"perturbations", perturbed_losses(input.models, input.data, measure, input.seed)}};
}

}  // namespace rwkvx

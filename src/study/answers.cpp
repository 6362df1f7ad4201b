#include "study/answers.h"

#include <torch/types.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <map>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/splitmix64.h"
#include "rwkvx/data/prompt_pairs.h"
#include "rwkvx/eval/choices.h"
#include "rwkvx/eval/pairs.h"
#include "rwkvx/generate/likelihood.h"
#include "rwkvx/metrics/rouge_tokens.h"
#include "rwkvx/synth/recall.h"
#include "study/probes.h"
#include "study/sources.h"

namespace rwkvx {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::uint64_t kSplitKey = 20;
constexpr std::uint64_t kValidEvery = 20;               // lines, one of which is for validation
constexpr std::uint64_t kTrainSeed = 1, kTestSeed = 2;  // of recall's lines
constexpr std::int64_t kSlots = 16;                     // sequences at a time
constexpr char kMetrics[] = "rouge1,rouge2,rougeL,bleu";
constexpr const char *kTrainLines = "train.jsonl", *kValidLines = "valid.jsonl";

bool for_validation(std::uint64_t line) { return splitmix64(kSplitKey, line) % kValidEvery == 0; }

class LineWriter {
 public:
  explicit LineWriter(double megabytes) : most_(megabytes * 1e6) {}
  // False where a line would be too much.
  bool add(const ordered_json& line, std::string& out) {
    const auto text = line.dump() + "\n";
    if (static_cast<double>(bytes_ + text.size()) > most_) return false;
    bytes_ += text.size();
    out += text;
    return true;
  }

 private:
  double most_;
  std::size_t bytes_ = 0;
};

// Prompts with their references as lines, up to the sizes that a data set has at most.
class PairLines {
 public:
  explicit PairLines(const DataSetConfig& config)
      : learned_(config.megabytes), tested_(config.test_megabytes) {}
  // `between` stands between the two in the text that is learned, as the template has it. False
  // where the pair would be too much.
  bool learn(const std::string& prompt, const char* between,
             const std::vector<std::string>& references) {
    auto& to = for_validation(count_++) ? lines.valid : lines.train;
    if (!learned_.add({{"prompt", prompt}, {"references", references}}, to)) return false;
    add_text(prompt + between, references, lines.train_text);
    return true;
  }
  bool test(const std::string& prompt, const std::vector<std::string>& references) {
    if (!tested_.add({{"id", lines.tests}, {"prompt", prompt}, {"reference", references}},
                     lines.test))
      return false;
    ++lines.tests;
    add_text(prompt, references, lines.test_text);
    return true;
  }
  AnswerLines lines;

 private:
  static void add_text(const std::string& prompt, const std::vector<std::string>& references,
                       std::string& text) {
    text += prompt;
    for (const auto& one : references) text += one + "\n";
  }
  LineWriter learned_, tested_;
  std::uint64_t count_ = 0;
};

AnswerLines pairs(const DataSetConfig& config, const MeasureConfig& measure,
                  const std::filesystem::path& sources) {
  PairLines pairs(config);
  for_each_pair(sources / config.train_pairs,
                [&](const std::string& prompt, const std::vector<std::string>& references) {
                  return pairs.learn(prompt, "\n", references);
                });
  for_each_pair(sources / config.test_pairs, [&](const std::string& prompt,
                                                 const std::vector<std::string>& references) {
    // As the template "plain" has it.
    return pairs.lines.tests < measure.prompts && pairs.test(prompt + "\n", references);
  });
  return std::move(pairs.lines);
}

// Running text as pairs of what was read and what follows.
AnswerLines continuations(const DataSetConfig& config, const MeasureConfig& measure,
                          const std::filesystem::path& sources,
                          const std::filesystem::path& folder) {
  DataConfig train, test;
  const auto add_sources = [&](const std::vector<std::string>& names, DataConfig& to) {
    for (const auto& name : names) {
      require_source(sources / name);
      to.valid.push_back((sources / name).string());
    }
  };
  add_sources(config.train, train);
  add_sources(config.test, test);
  if (!config.synth.empty()) {
    const auto made = write_synth_set(config, measure, folder);
    train.valid = {made.train.string()}, test.valid = {made.test.string()};
  }
  const auto cut = [&](const DataConfig& data, std::int64_t count) {
    return cut_pairs(data, {count, measure.prompt_words, measure.reference_words});
  };
  PairLines pairs(config);
  for (const auto& [prompt, reference] : cut(train, std::numeric_limits<std::int64_t>::max()))
    if (!pairs.learn(prompt, "", {reference})) break;
  for (const auto& [prompt, reference] : cut(test, measure.prompts))
    if (!pairs.test(prompt, {reference})) break;
  return std::move(pairs.lines);
}

AnswerLines choices(const DataSetConfig& config, const MeasureConfig& measure,
                    const std::filesystem::path& sources) {
  AnswerLines lines;
  std::uint64_t count = 0;
  const auto answer = [](const JsonObject& line, const std::string& where) {
    const auto& all = line.array("choices");
    const auto index = line.integer("answer");
    if (index < 0 || index >= static_cast<std::int64_t>(all.size()) ||
        !all[static_cast<std::size_t>(index)].is_string())
      throw DataError(
          where, "field \"answer\": expected the index of a choice, got " + std::to_string(index));
    return all[static_cast<std::size_t>(index)].get<std::string>();
  };
  for_each_line(sources / config.train_choices, [&](const JsonObject& line, const json&,
                                                    const std::string& where) {
    const auto right = answer(line, where);
    auto& to = for_validation(count++) ? lines.valid : lines.train;
    to += ordered_json{{"prompt", line.text("prompt")}, {"references", {right}}}.dump() + "\n";
    lines.train_text += line.text("prompt") + right + "\n";
    return true;
  });
  for_each_line(sources / config.test_choices,
                [&](const JsonObject& line, const json& item, const std::string& where) {
                  if (lines.tests == measure.prompts) return false;
                  lines.test_text += line.text("prompt") + answer(line, where) + "\n";
                  lines.test += item.dump() + "\n";
                  ++lines.tests;
                  return true;
                });
  return lines;
}

AnswerLines recall(const DataSetConfig& config, const MeasureConfig& measure) {
  AnswerLines lines;
  const auto line = [](const std::vector<RecallShape>& shapes, std::uint64_t seed,
                       std::int64_t index) {
    const auto& shape = shapes[static_cast<std::size_t>(index) % shapes.size()];
    const auto one = recall_sequence(shape, seed, static_cast<std::uint64_t>(index));
    std::vector<int> weights(one.ids.size());
    for (const auto at : one.answers) weights[static_cast<std::size_t>(at)] = 1;
    return ordered_json{{"ids", one.ids}, {"weights", weights}}.dump() + "\n";
  };
  const auto shapes = config.recall_shapes(/*test=*/false);
  for (std::int64_t i = 0; i < config.recall_lines; ++i)
    (for_validation(static_cast<std::uint64_t>(i)) ? lines.valid : lines.train) +=
        line(shapes, kTrainSeed, i);
  const auto test_shapes = config.recall_shapes(/*test=*/true);
  for (; lines.tests < measure.prompts; ++lines.tests)
    lines.test += line(test_shapes, kTestSeed, lines.tests);
  return lines;
}

// ---- what a model can do ----------------------------------------------------------------------

// Nats per token of the first reference after its prompt.
std::vector<double> reference_losses(Generator& generator, const DataSet& data) {
  std::vector<LikelihoodRequest> requests;
  for_each_line(data.prompts(), [&](const JsonObject& line, const json&, const std::string&) {
    requests.push_back({line.text("prompt"), {line.array("reference").at(0).get<std::string>()}});
    return true;
  });
  std::vector<double> losses(requests.size());
  std::size_t given = 0;
  continuation_likelihoods(
      generator, ContinuationTokens::kApart, kSlots,
      [&]() -> std::optional<LikelihoodRequest> {
        if (given == requests.size()) return std::nullopt;
        return requests[given++];
      },
      [&](std::int64_t request, const std::vector<Likelihood>& found) {
        losses[static_cast<std::size_t>(request)] =
            -found[0].logprob / static_cast<double>(std::max<std::int64_t>(1, found[0].tokens));
      });
  return losses;
}

ordered_json responses(const std::filesystem::path& checkpoint, const DataSet& data,
                       const MeasureConfig& measure, const TrainConfig& config,
                       const std::filesystem::path& folder) {
  Generator generator(checkpoint, config.train.threads, config.train.device);
  ordered_json result;
  auto greedy = measure.generate;
  greedy.temperature = 0;
  for (const auto& [name, how] :
       {std::pair{"greedy", greedy}, std::pair{"sampled", measure.generate}}) {
    result[name] = scored_continuations(generator, data, how,
                                        folder / (std::string(name) + ".jsonl"), kMetrics);
  }
  result["reference"] = {{"loss", reference_losses(generator, data)}};
  return result;
}

ordered_json chosen(const std::filesystem::path& checkpoint, const DataSet& data,
                    const TrainConfig& config, const std::filesystem::path& folder) {
  Generator generator(checkpoint, config.train.threads, config.train.device);
  ChoiceConfig how;
  how.continuation_tokens = ContinuationTokens::kApart;  // as they were learned
  const auto details = folder / "choices.jsonl";
  const auto summary =
      eval_choices(generator, data.prompts(), "prompt", how, details, /*quiet=*/true);
  std::vector<double> right;
  for (const auto& one : read_choice_outcomes(details))
    right.push_back(best_choices(one.choices)[0] == one.answer ? 1 : 0);
  return {{"choices",
           {{"accuracy", right},
            {"labels", summary.labels},
            {"confusion", summary.confusion},
            {"calibration_error", summary.calibration.expected_error()}}}};
}

// Of the values that are asked for, those that the model finds most likely; by the number of pairs
// and by how far back the key stood with its value, in powers of two.
ordered_json recalled(const std::filesystem::path& checkpoint, const DataSet& data) {
  const torch::NoGradGuard no_grad;
  auto trained = load_trained("", checkpoint);
  std::vector<double> accuracy;
  // Right and all; by number of pairs and by distance.
  std::map<std::int64_t, std::pair<std::int64_t, std::int64_t>> by_pairs, by_distance;
  for_each_line(data.prompts(), [&](const JsonObject& line, const json&, const std::string&) {
    const auto ids = line.array("ids").get<std::vector<std::int64_t>>();
    const auto weights = line.array("weights").get<std::vector<int>>();
    const auto T = static_cast<std::int64_t>(ids.size()) - 1;
    auto state = trained.model->start(1);
    const auto input = torch::tensor(ids).narrow(0, 0, T).unsqueeze(0);
    const auto guess =
        trained.model->forward(input, state).squeeze(0).argmax(1).contiguous();  // (T)
    std::int64_t right = 0, asked = 0;
    for (std::size_t i = 1; i < ids.size(); ++i) {
      if (weights[i] == 0) continue;
      const auto first = std::ranges::find(ids, ids[i - 1]) - ids.begin();
      std::int64_t reach = 1;
      while (2 * reach <= static_cast<std::int64_t>(i) - 1 - first) reach *= 2;
      const bool found = guess.const_data_ptr<std::int64_t>()[i - 1] == ids[i];
      right += found, ++asked;
      by_distance[reach].first += found, ++by_distance[reach].second;
    }
    by_pairs[asked].first += right, by_pairs[asked].second += asked;
    accuracy.push_back(static_cast<double>(right) / static_cast<double>(asked));
    return true;
  });
  const auto counts = [](const auto& sums, const char* name) {
    auto all = ordered_json::array();
    for (const auto& [value, sum] : sums)
      all.push_back({{name, value}, {"right", sum.first}, {"asked", sum.second}});
    return all;
  };
  return {{"recall",
           {{"accuracy", accuracy},
            {"by_pairs", counts(by_pairs, "pairs")},
            {"by_distance", counts(by_distance, "from")}}}};
}

// ---- without one ------------------------------------------------------------------------------

// The words of texts, as sorted numbers without repetition.
class Words {
 public:
  std::vector<std::uint32_t> of(const std::string& text) {
    tokenizer_.tokenize(text, tokens_);
    auto ids = tokens_.ids;
    std::ranges::sort(ids);
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    return ids;
  }

 private:
  RougeTokenizer tokenizer_{{.kind = RougeTokenization::kUnicode}};
  TokenList tokens_;
};

// Of two lists of words, the share that is in both.
double common_share(const std::vector<std::uint32_t>& a, const std::vector<std::uint32_t>& b) {
  std::vector<std::uint32_t> common;
  std::ranges::set_intersection(a, b, std::back_inserter(common));
  const auto all = a.size() + b.size() - common.size();
  return all == 0 ? 0 : static_cast<double>(common.size()) / static_cast<double>(all);
}

}  // namespace

AnswerLines read_answer_lines(const DataSetConfig& config, const MeasureConfig& measure,
                              const std::filesystem::path& sources,
                              const std::filesystem::path& folder) {
  switch (config.learned()) {
    case Learned::kChoices:
      return choices(config, measure, sources);
    case Learned::kRecall:
      return recall(config, measure);
    default:
      return config.train_pairs.empty() ? continuations(config, measure, sources, folder)
                                        : pairs(config, measure, sources);
  }
}

TrainConfig answer_training(const TrainConfig& config, const DataSetConfig& source,
                            const DataSet& data) {
  auto result = config;
  result.data = DataConfig();
  result.data.format = DataFormat::kPairs;
  result.data.response_field = "references";
  result.data.train = {(data.folder / kTrainLines).string()};
  result.data.valid = {(data.folder / kValidLines).string()};
  result.data.swap_variants = source.swap_variants;
  if (source.train_pairs.empty()) result.data.chat_template = "{prompt}{response}";
  if (source.learned() == Learned::kRecall) {
    result.tokenizer = TokenizerConfig();
    result.tokenizer.kind = TokenizerKind::kIds;
    result.tokenizer.vocab_size = source.recall_vocab;
  }
  return result;
}

ordered_json measure_answers(const std::filesystem::path& checkpoint, const DataSetConfig& source,
                             const DataSet& data, const MeasureConfig& measure,
                             const TrainConfig& config, const std::filesystem::path& folder) {
  switch (source.learned()) {
    case Learned::kChoices:
      return chosen(checkpoint, data, config, folder);
    case Learned::kRecall:
      return recalled(checkpoint, data);
    default:
      return responses(checkpoint, data, measure, config, folder);
  }
}

ordered_json answers_without_model(const DataSetConfig& source, const DataSet& data) {
  ordered_json result = ordered_json::object();
  if (source.learned() == Learned::kRecall) return result;
  struct Example {
    std::vector<std::uint32_t> words;
    std::string answer;
  };
  Words words;
  std::vector<Example> examples;
  std::map<std::string, std::int64_t> counts;
  for_each_line(
      data.folder / kTrainLines, [&](const JsonObject& line, const json&, const std::string&) {
        examples.push_back({words.of(line.text("prompt")), line.array("references").at(0)});
        ++counts[examples.back().answer];
        return true;
      });
  if (source.learned() == Learned::kChoices) {
    const auto most =
        std::ranges::max_element(counts, {}, [](const auto& one) { return one.second; });
    std::vector<double> right;
    for_each_line(data.prompts(), [&](const JsonObject& line, const json&, const std::string&) {
      const auto answer =
          line.array("choices").at(static_cast<std::size_t>(line.integer("answer")));
      right.push_back(answer == most->first ? 1 : 0);
      return true;
    });
    return {{"the most frequent answer", {{"choices", {{"accuracy", right}}}}}};
  }
  const TemporaryFolder folder;
  std::string copied, nearest;
  for_each_line(data.prompts(), [&](const JsonObject& line, const json& item, const std::string&) {
    const auto prompt = line.text("prompt");
    const auto own = words.of(prompt);
    const Example* best = nullptr;
    double most = -1;
    for (const auto& one : examples)
      if (const double share = common_share(own, one.words); share > most)
        most = share, best = &one;
    const auto add = [&](const std::string& prediction, std::string& out) {
      out +=
          ordered_json{{"prediction", prediction}, {"reference", item["reference"]}}.dump() + "\n";
    };
    add(prompt, copied);
    add(best == nullptr ? "" : best->answer, nearest);
    return true;
  });
  for (const auto& [name, lines] : {std::pair{"the prompt itself", copied},
                                    std::pair{"the nearest training example", nearest}}) {
    write_file(folder.path() / "lines.jsonl", lines);
    result[name] = {{"greedy", continuation_scores(folder.path() / "lines.jsonl", kMetrics)}};
  }
  return result;
}

}  // namespace rwkvx

#include "study/probes.h"

#include <torch/types.h>

#include "rwkvx/checkpoint/checkpoint_directory.h"
#include "rwkvx/eval/predictions.h"
#include "rwkvx/eval/scoring.h"
#include "rwkvx/model/checkpoint.h"
#include "rwkvx/study/gates.h"

namespace rwkvx {

TrainedModel load_trained(const std::string& variant, const std::filesystem::path& checkpoint) {
  TrainedModel trained;
  trained.variant = variant;
  trained.checkpoint = checkpoint;
  trained.model = load_model(checkpoint);
  trained.tokenizer = load_tokenizer(checkpoint / kTokenizerFolder);
  return trained;
}

nlohmann::ordered_json continuation_scores(const std::filesystem::path& predictions,
                                           std::string_view metrics) {
  const auto set = parse_metrics(metrics, /*settings=*/{}, "metrics");
  const auto columns = metric_columns(set);
  std::vector<std::vector<double>> values(columns.size());
  ScoringOptions options;
  options.threads = 1;
  options.each = [&](const SampleScores& scores) {
    const auto found = sample_scores(set, scores.statistics);
    for (std::size_t i = 0; i < values.size(); ++i) values[i].push_back(found[i].value);
  };
  const auto source = pairs_from_json(predictions);
  const auto summary = score_pairs(*source, set, options);
  nlohmann::ordered_json result;
  for (std::size_t i = 0; i < columns.size(); ++i) result[columns[i].name] = values[i];
  for (std::size_t i = 0; i < columns.size(); ++i)
    if (columns[i].name == "bleu") result["corpus_bleu"] = summary.scores[i].value;
  return result;
}

nlohmann::ordered_json scored_continuations(Generator& generator, const DataSet& data,
                                            const GenerateConfig& config,
                                            const std::filesystem::path& predictions,
                                            std::string_view metrics) {
  write_predictions(generator, data.prompts(), {}, config, predictions, /*quiet=*/true);
  auto scores = continuation_scores(predictions, metrics);
  scores["signature"] = generation_signature(config);
  return scores;
}

at::Tensor row_losses(RwkvImpl& model, const at::Tensor& rows, std::int64_t chunk) {
  const torch::NoGradGuard no_grad;
  const auto T = rows.size(1) - 1;
  auto state = model.start(rows.size(0));
  std::vector<at::Tensor> losses;
  for (int64_t begin = 0; begin < T; begin += chunk) {
    const auto end = std::min(T, begin + chunk);
    const auto logits = model.forward(rows.slice(1, begin, end), state);  // (B, chunk, V)
    const auto targets = rows.slice(1, begin + 1, end + 1).unsqueeze(2);  // (B, chunk, 1)
    losses.push_back(-torch::log_softmax(logits, -1).gather(2, targets).squeeze(2));
  }
  return torch::cat(losses, 1);  // (B, T - 1)
}

nlohmann::ordered_json gate_snapshot(RwkvImpl& model, const std::vector<TokenId>& tokens) {
  if (!model.config().shift.enabled() || model.config().shift.gate_form() == Gate::kOne ||
      tokens.size() < 3)
    return nlohmann::ordered_json::object();
  const auto ids = torch::tensor(std::vector<int64_t>(tokens.begin(), tokens.end()), torch::kInt64);
  auto sites = nlohmann::ordered_json::array();
  for (const auto& site : read_gates(model, ids.unsqueeze(0))) {
    const auto flat = site.gate.flatten();
    const auto counts = at::histc(flat, 20, 0, 1) / static_cast<double>(flat.numel());
    const float* first = counts.const_data_ptr<float>();
    sites.push_back({{"site", site.name},
                     {"mean", flat.mean().item<double>()},
                     {"deviation", flat.std().item<double>()},
                     {"below_0.05", (flat < 0.05).to(torch::kFloat64).mean().item<double>()},
                     {"above_0.95", (flat > 0.95).to(torch::kFloat64).mean().item<double>()},
                     {"share", site.share.mean().item<double>()},
                     {"histogram", std::vector<double>(first, first + 20)}});
  }
  model.zero_grad();
  const auto T = ids.size(0);
  auto state = model.start(1);
  const auto logits = model.forward(ids.slice(0, 0, T - 1).unsqueeze(0), state).squeeze(0);
  at::cross_entropy_loss(logits, ids.slice(0, 1, T)).backward();
  auto norms = nlohmann::ordered_json::object();
  const auto parameters = model.named_parameters();
  for (const auto& row : describe_parameters(model.config()))
    if (const auto& grad = parameters[row.name].grad(); row.of_shift() && grad.defined())
      norms[row.name] = grad.norm().item<double>();
  model.zero_grad();
  return {{"sites", sites}, {"gradient_norms", norms}};
}

}  // namespace rwkvx

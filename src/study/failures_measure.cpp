#include <torch/types.h>

#include <algorithm>

#include "rwkvx/base/error.h"
#include "rwkvx/data/token_file.h"
#include "rwkvx/eval/pairs.h"
#include "rwkvx/synth/synth.h"
#include "study/probes.h"

namespace rwkvx {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

at::Tensor row_of(const std::vector<std::int64_t>& ids) {
  return torch::tensor(ids, torch::kInt64).unsqueeze(0);
}

// Loss and accuracy of every pair's reference, which its prompt gives away, beside the loss of the
// prompt itself.
ordered_json answer_pairs(const TrainedModel& trained, const std::filesystem::path& pairs) {
  const torch::NoGradGuard no_grad;
  std::vector<double> losses, accuracies, prompt_losses;
  LineReader reader(pairs);
  for (std::string line; line.clear(), reader.append(line);) {
    const auto item = json::parse(line);
    const auto reference = item["reference"].is_array() ? item["reference"][0] : item["reference"];
    std::vector<std::int64_t> ids{trained.tokenizer->text_start()};
    for (const auto id : trained.tokenizer->encode(item["prompt"].get<std::string>()))
      ids.push_back(id);
    const auto prompt = static_cast<std::int64_t>(ids.size());
    for (const auto id : trained.tokenizer->encode(reference.get<std::string>())) ids.push_back(id);
    const auto row = row_of(ids);
    const auto T = row.size(1);
    if (T == prompt) continue;
    auto& model = *trained.model.ptr();
    auto state = model.start(1);
    const auto logits = model.forward(row.slice(1, 0, T - 1), state).squeeze(0);  // (T - 1, V)
    const auto targets = row.squeeze(0).slice(0, 1, T);                           // (T - 1)
    const auto loss =
        -torch::log_softmax(logits, -1).gather(1, targets.unsqueeze(1)).squeeze(1);  // (T - 1)
    const auto right = logits.argmax(-1).eq(targets).to(torch::kFloat64);
    losses.push_back(loss.slice(0, prompt - 1).mean().item<double>());
    accuracies.push_back(right.slice(0, prompt - 1).mean().item<double>());
    prompt_losses.push_back(loss.slice(0, 0, prompt - 1).mean().item<double>());
  }
  return {{"loss", losses}, {"accuracy", accuracies}, {"prompt_loss", prompt_losses}};
}

// Mean loss of the same tokens in windows of T, each from an empty state; and of those at positions
// that training has not shown.
ordered_json loss_by_length(const TrainedModel& trained, const TokenFile& tokens,
                            const std::vector<std::int64_t>& lengths, std::int64_t ctx_len) {
  const auto longest = *std::max_element(lengths.begin(), lengths.end());
  const auto count = std::min(longest, tokens.size() - 1);
  std::vector<std::int64_t> ids(static_cast<std::size_t>(count + 1));
  tokens.read(0, count + 1, ids.data());
  auto rows = ordered_json::array();
  for (const auto length : lengths) {
    if (length > count) continue;
    const auto windows = count / length;
    std::vector<at::Tensor> cut;
    for (std::int64_t i = 0; i < windows; ++i) {
      const auto begin = ids.begin() + i * length;
      cut.push_back(row_of({begin, begin + length + 1}));
    }
    auto& model = *trained.model.ptr();
    const auto losses = row_losses(model, torch::cat(cut, 0));  // (windows, length)
    ordered_json row = {{"length", length}, {"loss", losses.mean().item<double>()}};
    row["beyond"] = length > ctx_len ? ordered_json(losses.slice(1, ctx_len).mean().item<double>())
                                     : ordered_json(nullptr);
    rows.push_back(row);
  }
  return rows;
}

}  // namespace

// On copy, induction and recall: loss and accuracy of what follows from the context; on other text:
// the loss by the length of the context, up to far beyond ctx_len.
ordered_json measure_failures(const MeasureInput& input) {
  const auto& synth = input.source.synth;
  const bool task = !synth.empty() && synth_task(synth, "synth").answers;
  ordered_json result = {{"task", task ? synth : ""}};
  for (const auto& trained : input.models) {
    auto& out = result["models"][trained.variant];
    if (task)
      out = answer_pairs(trained, input.data.prompts());
    else
      out = loss_by_length(trained, TokenFile(input.data.folder / "tokens" / "valid"),
                           input.study.lengths, input.base.train.ctx_len);
  }
  return result;
}

}  // namespace rwkvx

#include "train/response_check.h"

#include <torch/types.h>

#include <algorithm>

#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/engine/engine.h"
#include "rwkvx/formats/safetensors.h"
#include "rwkvx/metrics/rouge.h"
#include "rwkvx/model/checkpoint.h"

namespace rwkvx {
namespace {

constexpr std::size_t kTogether = 16;  // sequences that are decoded together

// A prompt on its way.
struct Sequence {
  EngineState state;
  TokenId token = 0;
  std::vector<TokenId> response;
  bool done = false;
};

TokenId likeliest(const float* logits, std::int64_t count) {
  return static_cast<TokenId>(std::max_element(logits, logits + count) - logits);
}

EngineState first_state(const Engine& engine, const LearnedState* learned) {
  auto state = engine.start();
  if (learned == nullptr) return state;
  auto plain = engine.export_state(state);
  const auto rows = plain.values.size() / learned->layers.size();
  for (std::size_t l = 0; l < learned->layers.size(); ++l) {
    const auto values = learned->layers[l].detach().to(torch::kCPU).contiguous();
    const float* from = values.const_data_ptr<float>();
    plain.values[l * rows + learned->row].assign(from, from + values.numel());
  }
  return engine.import_state(plain);
}

}  // namespace

std::optional<ResponseScore> score_responses(const Rwkv& model, const LearnedState* learned,
                                             const Tokenizer& tokenizer,
                                             const std::vector<SupervisedPrompt>& prompts,
                                             std::int64_t longest,
                                             const std::function<bool()>& stop) {
  const TemporaryFolder folder;
  const auto file = folder.path() / "weights.safetensors";
  write_safetensors(file, weight_views(*model).views);
  Engine engine(open_tensor_file(file), model->config());
  const auto V = model->config().vocab_size;
  const auto start = first_state(engine, learned);
  ResponseScore result;
  RougeScorer scorer({*rouge_type("rougeL")});
  for (std::size_t first = 0; first < prompts.size(); first += kTogether) {
    if (stop()) return std::nullopt;
    std::vector<Sequence> sequences(std::min(kTogether, prompts.size() - first));
    std::vector<float> logits(sequences.size() * static_cast<std::size_t>(V));
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      auto& one = sequences[i];
      one.state = start;
      std::vector<TokenId> ids;
      if (tokenizer.text_start() != kNoToken) ids.push_back(tokenizer.text_start());
      const auto own = tokenizer.encode(prompts[first + i].prompt);
      ids.insert(ids.end(), own.begin(), own.end());
      engine.prefill(ids, one.state, logits.data());
      one.token = likeliest(logits.data(), V);
    }
    for (std::int64_t step = 0; step < longest; ++step) {
      std::vector<TokenId> tokens;
      std::vector<EngineState*> states;
      std::vector<Sequence*> open;
      for (auto& one : sequences) {
        if (one.done || one.token == tokenizer.document_end()) {
          one.done = true;
          continue;
        }
        one.response.push_back(one.token);
        tokens.push_back(one.token);
        states.push_back(&one.state);
        open.push_back(&one);
      }
      if (open.empty()) break;
      engine.step(tokens, states, logits.data());
      for (std::size_t i = 0; i < open.size(); ++i)
        open[i]->token = likeliest(logits.data() + i * static_cast<std::size_t>(V), V);
    }
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      result.responses.push_back(tokenizer.decode(sequences[i].response));
      const auto& references = prompts[first + i].references;
      const std::vector<std::string_view> wanted(references.begin(), references.end());
      RougeScore score;
      scorer.score(result.responses.back(), wanted, {&score, 1});
      result.rouge_l += score.f1 / static_cast<double>(prompts.size());
    }
  }
  return result;
}

}  // namespace rwkvx

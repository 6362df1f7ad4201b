#include "rwkvx/generate/generator.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <thread>

#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/generate/sampler.h"
#include "rwkvx/generate/text_stream.h"
#include "rwkvx/model/checkpoint.h"
#include "rwkvx/model/checkpoint_directory.h"
#include "rwkvx/ops/device.h"

namespace rwkvx {
namespace {

// Tokens of a prompt that go through the model at once: matrix times matrix, in bounded memory.
constexpr int64_t kChunk = 256;

CheckpointDirectory open_model(const std::filesystem::path& path) {
  // The tensors carry their own checksums, so that a damaged one is named.
  return open_checkpoint(resolve_checkpoint(path), Verification::kTensors);
}

Rwkv read_model(const CheckpointDirectory& directory) {
  Rwkv model(read_checkpoint_config(directory.path).model);
  load_weights(*model, open_tensors(directory.weights()));
  model->eval();
  return model;
}

}  // namespace

struct Generator::Impl {
  Impl(const std::filesystem::path& path, const std::string& wanted_device)
      : device(find_device(wanted_device, "--device")),
        directory(open_model(path)),
        model(read_model(directory)),
        tokenizer(load_tokenizer(directory.tokenizer())),
        hash(directory.files.at(kWeightsFile).hash) {
    const auto config = read_checkpoint_config(directory.path);
    const auto wanted = config.document.value("/tokenizer/hash"_json_pointer, "");
    if (!wanted.empty() && wanted != tokenizer->hash())
      throw CheckpointError(directory.tokenizer().string(),
                            "is not the tokenizer that the model was trained with");
    if (tokenizer->vocab_size() > model->config().vocab_size)
      throw CheckpointError(directory.path.string(),
                            "has a vocabulary of " + std::to_string(model->config().vocab_size) +
                                ", too small for its tokenizer's " +
                                std::to_string(tokenizer->vocab_size()) + " ids");
    model->to(device);
  }

  // Feeds ids in chunks; returns the logits after the last one, (V) on the processor.
  at::Tensor feed(const std::vector<TokenId>& ids, ModelState& state) {
    const auto all =
        torch::tensor(std::vector<int64_t>(ids.begin(), ids.end()), torch::kInt64).to(device);
    at::Tensor features;
    for (int64_t begin = 0; begin < all.size(0); begin += kChunk)
      features = model->features(all.slice(0, begin, begin + kChunk).unsqueeze(0), state);
    return model->head(features.select(1, -1)).squeeze(0).cpu();
  }

  c10::Device device;
  CheckpointDirectory directory;
  Rwkv model;
  std::unique_ptr<Tokenizer> tokenizer;
  std::string hash;
};

Generator::Generator(const std::filesystem::path& model, std::int64_t threads,
                     const std::string& device) {
  const auto all = static_cast<std::int64_t>(std::max(1u, std::thread::hardware_concurrency()));
  at::set_num_threads(static_cast<int>(threads > 0 ? threads : all));
  impl_ = std::make_unique<Impl>(model, device);
}
Generator::~Generator() = default;

const Tokenizer& Generator::tokenizer() const { return *impl_->tokenizer; }
const std::filesystem::path& Generator::path() const { return impl_->directory.path; }
const std::string& Generator::weights_hash() const { return impl_->hash; }
std::string Generator::device_kind() const { return impl_->device.is_cpu() ? "cpu" : "cuda"; }

Continuation Generator::generate(std::string_view prompt, const GenerateConfig& config,
                                 const std::function<bool(std::string_view)>& show,
                                 std::uint64_t sequence, bool keep_text) {
  const torch::NoGradGuard no_grad;
  const auto& tokenizer = *impl_->tokenizer;
  auto ids = tokenizer.encode(prompt);
  if (ids.empty()) ids.push_back(tokenizer.document_end());
  Continuation result;
  result.prompt_tokens = static_cast<std::int64_t>(ids.size());
  result.ended_by = "length";
  if (config.max_tokens == 0) return result;

  auto state = impl_->model->start(1);
  auto logits = impl_->feed(ids, state).contiguous();  // (V)
  Sampler sampler(config, sequence);
  TextStream stream(config.stop);
  // Ids beyond the tokenizer's are padding of the vocabulary and have no text.
  const auto usable = static_cast<std::size_t>(tokenizer.vocab_size());
  bool wanted = true;
  const auto emit = [&](const std::string& text) {
    if (text.empty()) return;
    if (keep_text) result.text += text;
    if (show) wanted = show(text);
  };
  while (result.tokens < config.max_tokens) {
    const TokenId token = sampler.draw({logits.const_data_ptr<float>(), usable});
    ++result.tokens;
    if (token == tokenizer.document_end()) {
      result.ended_by = "document";
      break;
    }
    emit(stream.push(tokenizer.piece(token)));
    if (stream.stopped()) result.ended_by = "stop";
    if (!wanted || interrupted()) result.ended_by = "interrupt";
    if (stream.stopped() || !wanted || interrupted()) break;
    if (result.tokens < config.max_tokens) logits = impl_->feed({token}, state).contiguous();
  }
  if (wanted) emit(stream.finish());
  return result;
}

void Generator::losses(const std::function<std::vector<TokenId>(std::int64_t)>& next,
                       const std::function<void(const std::vector<double>&)>& use) {
  const torch::NoGradGuard no_grad;
  auto state = impl_->model->start(1);
  int64_t before = impl_->tokenizer->document_end();
  while (!interrupted()) {
    const auto ids = next(kChunk);
    if (ids.empty()) return;
    const auto targets = torch::tensor(std::vector<int64_t>(ids.begin(), ids.end()), torch::kInt64);
    const auto T = targets.size(0);
    const auto inputs =
        torch::cat({torch::full({1}, before, torch::kInt64), targets.slice(0, 0, T - 1)});
    before = ids.back();
    const auto logits =
        impl_->model->forward(inputs.unsqueeze(0).to(impl_->device), state).squeeze(0);  // (T, V)
    const auto losses = -torch::log_softmax(logits.to(torch::kFloat64), /*dim=*/1)
                             .gather(1, targets.unsqueeze(1).to(impl_->device))
                             .squeeze(1)
                             .cpu()
                             .contiguous();  // (T)
    const double* values = losses.const_data_ptr<double>();
    use(std::vector<double>(values, values + T));
  }
}

}  // namespace rwkvx

#include "model/draw_on_device.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

#include "rwkvx/ops/cuda/call.h"
#include "rwkvx/ops/cuda/draw_token.h"
#include "rwkvx/ops/cuda/upload.h"

namespace rwkvx {
namespace cuda {

void emulate(const DrawCall& call) {
  for_each_block(call.rows, [&](std::int64_t row) {
    const auto shared = std::make_unique<DrawShared>();
    draw_block(call, row, EmulatedBlock<kDrawThreads>(), *shared);
  });
}

}  // namespace cuda

namespace {

static_assert(cuda::kNoFiniteLogit == kNoFiniteLogit && cuda::kAllBanned == kAllTokensBanned);

// The rows of a call and its lists.
struct Settings {
  std::vector<cuda::DrawRow> rows;
  std::vector<std::int64_t> ids;
  std::vector<double> amounts;

  void add(TokenId id, double amount) { ids.push_back(id), amounts.push_back(amount); }
  std::int64_t end() const { return static_cast<std::int64_t>(ids.size()); }
  void add(const DrawRequest& request, std::int64_t usable);
};

void Settings::add(const DrawRequest& request, std::int64_t usable) {
  cuda::DrawRow row{};
  row.forced = request.forced;
  if (request.forced < 0) {
    const auto& samplers = *request.samplers;
    row.uniform = request.uniform;
    row.temperature = samplers.temperature;
    row.top_k = samplers.top_k, row.top_p = samplers.top_p, row.min_p = samplers.min_p;
    row.repetition = samplers.repetition_penalty;
    row.presence = samplers.presence_penalty, row.frequency = samplers.frequency_penalty;
    row.offsets = end();
    for (const auto id : request.banned)
      if (id < usable) add(id, -std::numeric_limits<double>::infinity());
    for (const auto& [id, bias] : *request.bias)
      if (id < usable && !std::ranges::binary_search(request.banned, id)) add(id, bias);
    row.offset_count = end() - row.offsets;
    row.seen = end();
    if (static_cast<const Penalties&>(samplers).active())
      for (const auto& [id, count] : request.memory->seen)
        if (id >= 0 && id < usable) add(id, count);
    row.seen_count = end() - row.seen;
  }
  rows.push_back(row);
}

template <class Value>
at::Tensor bytes_of(const std::vector<Value>& values, const at::Tensor& like) {
  return cuda::upload(values.data(), {static_cast<std::int64_t>(values.size() * sizeof(Value))},
                      at::kByte, like.device());
}

}  // namespace

void draw_on_device(const at::Tensor& logits, std::span<const DrawRequest> requests,
                    std::int64_t usable, std::span<TokenLogprob> drawn) {
  const auto rows = static_cast<std::int64_t>(requests.size());
  TORCH_CHECK(logits.dim() == 2 && logits.size(0) == rows && logits.is_contiguous() &&
                  logits.scalar_type() == at::kFloat && usable <= logits.size(1),
              "draw_on_device: wanted float32 logits of ", rows, " rows");
  Settings settings;
  for (const auto& request : requests) settings.add(request, usable);
  const auto table = bytes_of(settings.rows, logits), ids = bytes_of(settings.ids, logits),
             amounts = bytes_of(settings.amounts, logits);
  const auto numbers = [&](at::IntArrayRef shape) {
    return at::empty(shape, logits.options().dtype(at::kDouble));
  };
  const auto values = numbers({rows, usable}), weights = numbers({rows, usable});
  const auto results = at::empty({rows * static_cast<std::int64_t>(sizeof(cuda::DrawResult))},
                                 logits.options().dtype(at::kByte));
  cuda::DrawCall call{};
  call.rows = rows, call.vocab = logits.size(1), call.usable = usable;
  call.logits = logits.const_data_ptr<float>();
  call.settings = cuda::data<cuda::DrawRow>(table);
  call.ids = cuda::data<std::int64_t>(ids), call.amounts = cuda::data<double>(amounts);
  call.values = values.mutable_data_ptr<double>();
  call.weights = weights.mutable_data_ptr<double>();
  call.results = cuda::mutable_data<cuda::DrawResult>(results);
  cuda::run(call, logits);
  const auto here = results.cpu();
  const auto* found = cuda::data<cuda::DrawResult>(here);
  for (std::size_t i = 0; i < drawn.size(); ++i)
    drawn[i] = {static_cast<TokenId>(found[i].token), found[i].logprob};
}

}  // namespace rwkvx

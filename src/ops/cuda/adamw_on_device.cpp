#include "rwkvx/ops/cuda/adamw_on_device.h"

#include <algorithm>

#include "rwkvx/ops/cuda/call.h"
#include "rwkvx/ops/cuda/upload.h"

namespace rwkvx::cuda {

void emulate(const AdamwCall& call) {
  for_each_block(call.pieces, [&](std::int64_t piece) {
    for (int thread = 0; thread < kAdamwThreads; ++thread) adamw_thread(call, piece, thread);
  });
}

void add_pieces(std::vector<AdamwPiece>& pieces, const AdamwPiece& parameter) {
  constexpr std::int64_t kNumbers = 8192;
  for (std::int64_t begin = 0; begin < parameter.count; begin += kNumbers) {
    auto piece = parameter;
    piece.offset += begin;
    if (piece.copy != nullptr) piece.copy += begin;
    piece.count = std::min(kNumbers, parameter.count - begin);
    pieces.push_back(piece);
  }
}

at::Tensor piece_table(const std::vector<AdamwPiece>& pieces, const at::Tensor& like) {
  return upload(pieces.data(), {static_cast<std::int64_t>(pieces.size() * sizeof(AdamwPiece))},
                at::kByte, like.device());
}

void adamw_step(AdamwCall call, const at::Tensor& table, const at::Tensor& x,
                const at::Tensor& grad, const at::Tensor& m, const at::Tensor& v) {
  call.pieces = table.numel() / static_cast<std::int64_t>(sizeof(AdamwPiece));
  call.table = static_cast<const AdamwPiece*>(table.const_data_ptr());
  call.x = mutable_data<float>(x), call.grad = mutable_data<float>(grad);
  call.m = mutable_data<float>(m), call.v = mutable_data<float>(v);
  run(call, x);
}

}  // namespace rwkvx::cuda

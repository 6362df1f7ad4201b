#include "rwkvx/modules/initial_values.h"

#include <ATen/ATen.h>

namespace rwkvx {
namespace {

// Rows or columns, whichever are fewer, orthonormal, times gain: (rows, columns).
at::Tensor orthogonal(int64_t rows, int64_t columns, double gain, const at::Generator& generator) {
  const bool wide = rows < columns;
  auto noise = at::empty({wide ? columns : rows, wide ? rows : columns}, at::kFloat);
  noise.normal_(0, 1, generator);
  auto [q, r] = at::linalg_qr(noise);
  q = q * at::sign(at::diagonal(r));  // makes the distribution uniform over orthogonal matrices
  return (wide ? q.t() : q) * gain;
}

at::Tensor by_channel(const Start& start, const Shape& shape) {
  const auto values = at::empty(shape, at::kDouble);
  auto* to = values.mutable_data_ptr<double>();
  const int64_t channels = shape.back();
  for (int64_t i = 0; i < values.numel(); ++i) to[i] = start.channel(i % channels, channels);
  return values;
}

}  // namespace

at::Tensor initial_value(const ParameterRow& row, const at::Generator& generator, double range) {
  const auto& start = row.start;
  const auto empty = [&] { return at::empty(row.shape, at::kFloat); };
  switch (start.kind) {
    case Start::Kind::kConstant:
      return at::full(row.shape, start.number);
    case Start::Kind::kNormal:
      return empty().normal_(0, start.number, generator);
    case Start::Kind::kOrthogonal:
      return orthogonal(row.shape[0], row.shape[1], start.number, generator);
    case Start::Kind::kEmbeddingRange:
      return empty().uniform_(-range, range, generator);
    case Start::Kind::kUniform:
      return empty().uniform_(-start.number, start.number, generator);
    case Start::Kind::kByChannel:
      return by_channel(start, row.shape);
  }
  TORCH_CHECK(false, "a parameter starts in a way that initial_value() does not know");
}

}  // namespace rwkvx

#include "rwkvx/cores/parameters.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstdio>

#include "rwkvx/cores/core.h"

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

}  // namespace

std::string start_number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

Start starts_at(double value) {
  return {
      value == 0   ? "zeros"
      : value == 1 ? "ones"
                   : start_number(value),
      [value](const Shape& shape, const at::Generator&, double) { return at::full(shape, value); },
      value};
}

Start starts_normal(double deviation) {
  return {"normal, deviation " + start_number(deviation),
          [deviation](const Shape& shape, const at::Generator& generator, double) {
            return at::empty(shape, at::kFloat).normal_(0, deviation, generator);
          }};
}

Start starts_orthogonal(double gain) {
  return {"orthogonal, gain " + start_number(gain),
          [gain](const Shape& shape, const at::Generator& generator, double) {
            return orthogonal(shape[0], shape[1], gain, generator);
          }};
}

Start starts_in_embedding_range() {
  return {"uniform, +- learning rate",
          [](const Shape& shape, const at::Generator& generator, double range) {
            return at::empty(shape, at::kFloat).uniform_(-range, range, generator);
          }};
}

std::int64_t ParameterRow::count() const {
  std::int64_t product = 1;
  for (const auto size : shape) product *= size;
  return product;
}

ParameterRow matrix_row(std::string name, std::int64_t out, std::int64_t in, std::string_view part,
                        Start start) {
  return {std::move(name), {out, in}, part, std::move(start), /*matrix=*/true};
}

void add_norm_rows(std::vector<ParameterRow>& rows, const std::string& name, std::int64_t C) {
  rows.push_back({name + ".weight", {C}, kNormPart, starts_at(1)});
  rows.push_back({name + ".bias", {C}, kNormPart, starts_at(0)});
}

std::vector<ParameterRow> describe_parameters(const ModelConfig& config) {
  const auto& core = core_of(config);
  const std::int64_t C = config.n_embd, V = config.vocab_size;
  std::vector<ParameterRow> rows;
  rows.push_back(matrix_row("emb.weight", V, C, kEmbeddingPart, starts_in_embedding_range()));
  for (std::int64_t layer = 0; layer < config.n_layer; ++layer) {
    std::vector<ParameterRow> block;
    if (layer == 0) add_norm_rows(block, "ln0", C);  // normalizes the embedding
    for (auto& row : core.parameters(config, layer)) block.push_back(std::move(row));
    for (auto& row : block) {
      row.name = block_prefix(layer) + row.name;
      rows.push_back(std::move(row));
    }
  }
  add_norm_rows(rows, "ln_out", C);
  const double gain =
      V > C ? 0.5 * std::sqrt(static_cast<double>(V) / static_cast<double>(C)) : 0.5;
  rows.push_back(matrix_row("head.weight", V, C, kHeadPart, starts_orthogonal(gain)));
  return rows;
}

std::int64_t parameter_count(const ModelConfig& config) {
  std::int64_t sum = 0;
  for (const auto& row : describe_parameters(config)) sum += row.count();
  return sum;
}

}  // namespace rwkvx

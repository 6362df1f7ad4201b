#include "rwkvx/cores/parameters.h"

#include <cmath>
#include <cstdio>

#include "rwkvx/cores/core.h"

namespace rwkvx {

std::string start_number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

Start starts_at(double value) {
  const auto text = value == 0 ? "zeros" : value == 1 ? "ones" : start_number(value);
  return {text, Start::Kind::kConstant, value};
}

Start starts_normal(double deviation) {
  return {"normal, deviation " + start_number(deviation), Start::Kind::kNormal, deviation};
}

Start starts_orthogonal(double gain) {
  return {"orthogonal, gain " + start_number(gain), Start::Kind::kOrthogonal, gain};
}

Start starts_in_embedding_range() {
  return {"uniform, +- learning rate", Start::Kind::kEmbeddingRange};
}

Start starts_uniform(double range) {
  return {"uniform, +- " + start_number(range), Start::Kind::kUniform, range};
}

Start starts_by_channel(std::string text,
                        std::function<double(std::int64_t c, std::int64_t channels)> channel) {
  return {std::move(text), Start::Kind::kByChannel, 0, std::move(channel)};
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

ParameterRow transposed_row(std::string name, std::int64_t in, std::int64_t out,
                            std::string_view part, Start start) {
  ParameterRow row{std::move(name), {in, out}, part, std::move(start), /*matrix=*/true};
  row.transposed = true;
  return row;
}

void add_norm_rows(std::vector<ParameterRow>& rows, const std::string& name, std::int64_t C) {
  rows.push_back({name + ".weight", {C}, kNormPart, starts_at(1)});
  rows.push_back({name + ".bias", {C}, kNormPart, starts_at(0)});
}

std::vector<ParameterRow> describe_parameters(const ModelConfig& config) {
  const auto& core = core_of(config);
  const std::int64_t C = config.n_embd, V = config.vocab_size;
  std::vector<ParameterRow> rows;
  rows.push_back(matrix_row("emb.weight", V, C, kEmbeddingPart, core.embedding_start()));
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

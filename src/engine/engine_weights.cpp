#include "engine/engine_weights.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>

#include "rwkvx/base/error.h"
#include "rwkvx/engine/weights_check.h"
#include "rwkvx/model/checkpoint_config.h"
#include "rwkvx/model/checkpoint_directory.h"
#include "rwkvx/model/open_tensors.h"
#include "rwkvx/model/parameters.h"
#include "rwkvx/model/tensor_messages.h"

namespace rwkvx {

namespace {

std::int64_t numel(const std::vector<std::int64_t>& shape) {
  std::int64_t product = 1;
  for (const auto size : shape) product *= size;
  return product;
}

constexpr std::size_t kHugePage = 2 << 20, kPage = 4096, kLine = 64;

std::size_t rounded_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

// Copies a file's bytes and lets the system forget the pages that they were read into.
void move_out(const std::byte* from, std::size_t bytes, std::byte* to) {
  std::memcpy(to, from, bytes);
  const auto first = rounded_up(reinterpret_cast<std::uintptr_t>(from), kPage);
  const auto last = (reinterpret_cast<std::uintptr_t>(from) + bytes) / kPage * kPage;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

bool is_aligned(const TensorView& tensor, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % bytes == 0;
}

}  // namespace

HugeMemory::HugeMemory(std::size_t bytes) : bytes_(rounded_up(bytes, kHugePage)) {
  void* found = ::mmap(nullptr, bytes_ + kHugePage, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (found == MAP_FAILED) throw std::bad_alloc();
  // Only the part from a multiple of a large page on is kept.
  auto* begin = static_cast<std::byte*>(found);
  const auto skipped = rounded_up(reinterpret_cast<std::uintptr_t>(begin), kHugePage) -
                       reinterpret_cast<std::uintptr_t>(begin);
  if (skipped > 0) ::munmap(begin, skipped);
  if (skipped < kHugePage) ::munmap(begin + skipped + bytes_, kHugePage - skipped);
  data_ = begin + skipped;
  ::madvise(data_, bytes_, MADV_HUGEPAGE);  // a wish
}
HugeMemory::~HugeMemory() { ::munmap(data_, bytes_); }

void EngineWeights::fail(const std::string& tensor, const std::string& reason) const {
  throw CheckpointError(file_.path().string() + ": " + tensor, reason);
}

const TensorView& EngineWeights::find(const std::string& name) {
  known_.insert(name);
  const auto* tensor = file_.find(name);
  if (tensor == nullptr) fail(name, "is missing");
  return *tensor;
}

const float* EngineWeights::vector(const std::string& name, std::int64_t count) {
  const auto& tensor = find(name);
  if (numel(tensor.shape) != count)
    fail(name,
         "wanted " + std::to_string(count) + " numbers, found shape " + shape_text(tensor.shape));
  return own_.emplace_back(to_float32(tensor)).data();
}

WeightMatrix EngineWeights::quantised(const TensorView& tensor, std::int64_t rows,
                                      std::int64_t columns) {
  WeightMatrix out{tensor.dtype == DType::kI8 ? WeightType::kInt8 : WeightType::kInt4, rows,
                   columns, tensor.bytes.data(), nullptr};
  if (file_.find(tensor.name + ".scale") == nullptr)
    fail(tensor.name, "holds integers (" + std::string(dtype_name(tensor.dtype)) +
                          ") that rwkvx quantize did not write; wanted the model's weights as "
                          "floating-point numbers");
  const auto& scales = find(tensor.name + ".scale");
  const bool int8 = out.type == WeightType::kInt8;
  const std::vector<std::int64_t> wanted =
      int8 ? std::vector<std::int64_t>{rows} : std::vector<std::int64_t>{rows, 2 * out.blocks()};
  if (scales.shape != wanted || scales.dtype != (int8 ? DType::kF32 : DType::kBF16) ||
      !is_aligned(scales, int8 ? 4 : 2))
    fail(scales.name, std::string("wanted ") + (int8 ? "F32 " : "BF16 ") + shape_text(wanted) +
                          ", found " + std::string(dtype_name(scales.dtype)) + " " +
                          shape_text(scales.shape));
  out.scales = scales.bytes.data();
  if (const auto name = tensor.name + ".column_scale"; file_.find(name) != nullptr)
    out.column_scales = vector(name, columns);
  if (file_.find(tensor.name + ".wide_rows") != nullptr) read_wide(out, tensor.name);
  return out;
}

const std::int32_t* EngineWeights::indices(const std::string& name, std::int64_t count) {
  const auto& tensor = find(name);
  if (tensor.dtype != DType::kI32 || numel(tensor.shape) != count)
    fail(name, "wanted " + std::to_string(count) + " I32 numbers, found " +
                   std::string(dtype_name(tensor.dtype)) + " " + shape_text(tensor.shape));
  auto& own = own_indices_.emplace_back(static_cast<std::size_t>(count));
  std::memcpy(own.data(), tensor.bytes.data(), tensor.bytes.size());
  return own.data();
}

void EngineWeights::read_wide(WeightMatrix& matrix, const std::string& name) {
  const auto* first = indices(name + ".wide_rows", matrix.rows + 1);
  const auto count = numel(find(name + ".wide_columns").shape);
  const auto* columns = indices(name + ".wide_columns", count);
  if (first[0] != 0 || first[matrix.rows] != count ||
      !std::is_sorted(first, first + matrix.rows + 1))
    fail(name + ".wide_rows", "does not count up to the " + std::to_string(count) + " of " + name +
                                  ".wide_columns; make the file again with `rwkvx quantize`");
  for (std::int64_t i = 0; i < count; ++i)
    if (columns[i] < 0 || columns[i] >= matrix.columns)
      fail(name + ".wide_columns", "expected 0 to " + std::to_string(matrix.columns - 1) +
                                       ", got " + std::to_string(columns[i]) +
                                       "; make the file again with `rwkvx quantize`");
  matrix.wide = {first, columns, vector(name + ".wide_values", count)};
}

WeightMatrix EngineWeights::matrix(const std::string& name, std::int64_t rows,
                                   std::int64_t columns) {
  const auto& tensor = find(name);
  const bool integer = tensor.dtype == DType::kI8 || tensor.dtype == DType::kU8;
  WeightMatrix out{tensor.dtype == DType::kBF16 ? WeightType::kBF16 : WeightType::kF32, rows,
                   columns, tensor.bytes.data(), nullptr};
  if (integer) out = quantised(tensor, rows, columns);
  const std::vector<std::int64_t> wanted{rows,
                                         out.type == WeightType::kInt4 ? out.row_bytes() : columns};
  if (tensor.shape != wanted)
    fail(name, "wanted shape " + shape_text(wanted) + ", found " + shape_text(tensor.shape));
  const std::size_t size = dtype_size(tensor.dtype);
  if (!integer && ((tensor.dtype != DType::kF32 && tensor.dtype != DType::kBF16) ||
                   !is_aligned(tensor, size))) {
    out.type = WeightType::kF32;
    if (use_ == Use::kCheck) {
      to_float32({tensor.name, tensor.dtype, {0}, {}});  // throws for a type that is no number's
      return out;
    }
    out.values = reinterpret_cast<const std::byte*>(own_.emplace_back(to_float32(tensor)).data());
  }
  return out;
}

EngineSite EngineWeights::site(const std::string& prefix, const char* norm, bool shifted,
                               int mixes) {
  const std::int64_t C = config_.n_embd;
  const auto& shift = config_.shift;
  EngineSite out;
  out.mix.channels = C;
  out.mix.mixes = mixes;
  out.mix.norm_weight = vector(norm + std::string(".weight"), C);
  out.mix.norm_bias = vector(norm + std::string(".bias"), C);
  const char* names[] = {"time_mix_k", mixes == 3 ? "time_mix_v" : "time_mix_r", "time_mix_r"};
  for (int i = 0; i < mixes; ++i) out.mix.mix[i] = vector(prefix + names[i], C);
  if (!shifted) return out;
  const auto part = [&](const char* name, std::int64_t count) {
    return vector(prefix + "shift." + name, count);
  };
  if (shift.has_conv()) {
    out.mix.taps = shift.kernel;
    out.mix.conv = part("conv", shift.kernel * C);
  } else {  // a copy of the token before
    out.mix.taps = 2;
    auto& taps = own_.emplace_back(static_cast<std::size_t>(2 * C), 0.0f);
    std::fill(taps.begin() + static_cast<std::ptrdiff_t>(C), taps.end(), 1.0f);
    out.mix.conv = taps.data();
  }
  if (shift.features() > 0) out.pos_u = part("pos_u", shift.kernel * shift.features());
  const auto form = shift.gate_form();
  if (form == "diag") {
    out.mix.gate_x = part("gate_x", C);
    out.mix.gate_s = part("gate_s", C);
    out.mix.gate_b = part("gate_b", C);
  } else if (form == "lowrank") {
    out.rank = shift.gate_rank;
    out.gate_d = part("gate_d", out.rank * C);
    out.gate_u = part("gate_u", out.rank * C);
    out.gate_b = part("gate_b", C);
  } else if (form != "one") {
    out.gates = form == "group" ? shift.gate_groups : 1;
    out.gate_w = part("gate_w", out.gates * C);
    out.gate_b = part("gate_b", out.gates);
  }
  return out;
}

void check_weights(const TensorFile& file, const ModelConfig& config) {
  EngineWeights(file, config, EngineWeights::Use::kCheck);
}

void check_model(const std::filesystem::path& path) {
  if (std::filesystem::is_regular_file(path)) {
    const auto file = open_tensors(path);
    return check_weights(file, infer_config(file));
  }
  const auto directory = open_checkpoint(resolve_checkpoint(path), Verification::kSizes);
  check_weights(open_tensors(directory.weights()), read_checkpoint_config(directory.path).model);
}

EngineWeights::EngineWeights(const TensorFile& file, const ModelConfig& config, Use use)
    : file_(file), config_(config), use_(use) {
  const std::int64_t C = config.n_embd, A = config.att_channels(), F = config.ffn_channels(),
                     V = config.vocab_size;
  for (const auto& row : describe_parameters(config))
    if (file.find(row.name) == nullptr) fail(row.name, missing_tensor(row.name, row.shape));
  embedding = matrix("emb.weight", V, C);
  for (std::int64_t l = 0; l < config.n_layer; ++l) {
    const auto block = "blocks." + std::to_string(l) + ".";
    if (l == 0) {
      ln0[0] = vector(block + "ln0.weight", C);
      ln0[1] = vector(block + "ln0.bias", C);
    }
    EngineLayer layer;
    layer.att = site(block + "att.", (block + "ln1").c_str(), config.shift.at_att(), 3);
    layer.ffn = site(block + "ffn.", (block + "ln2").c_str(), config.shift.at_ffn(), 2);
    vector(block + "att.time_decay", A);
    for (auto& value : own_.back()) value = -std::exp(value);
    layer.w = own_.back().data();
    layer.u = vector(block + "att.time_first", A);
    layer.key = matrix(block + "att.key.weight", A, C);
    layer.value = matrix(block + "att.value.weight", A, C);
    layer.receptance = matrix(block + "att.receptance.weight", A, C);
    layer.output = matrix(block + "att.output.weight", C, A);
    layer.ffn_key = matrix(block + "ffn.key.weight", F, C);
    layer.ffn_receptance = matrix(block + "ffn.receptance.weight", C, C);
    layer.ffn_value = matrix(block + "ffn.value.weight", C, F);
    for (const auto* one : {&layer.key, &layer.value, &layer.receptance, &layer.output,
                            &layer.ffn_key, &layer.ffn_receptance, &layer.ffn_value})
      matrix_bytes += one->bytes();
    layers.push_back(layer);
  }
  ln_out[0] = vector("ln_out.weight", C);
  ln_out[1] = vector("ln_out.bias", C);
  head = matrix("head.weight", V, C);
  matrix_bytes += head.bytes();
  if (use == Use::kCompute) pack();
  for (const auto& tensor : file_.tensors())
    if (!known_.contains(tensor.name)) fail(tensor.name, unknown_tensor(tensor.name));
}

// Moves the matrices that every token reads whole into one piece of memory, in the order in which
// they are read.
void EngineWeights::pack() {
  std::vector<WeightMatrix*> all;
  for (auto& layer : layers)
    all.insert(all.end(), {&layer.key, &layer.value, &layer.receptance, &layer.output,
                           &layer.ffn_key, &layer.ffn_receptance, &layer.ffn_value});
  all.push_back(&head);
  const auto values_of = [](const WeightMatrix& one) {
    return static_cast<std::size_t>(one.rows * one.row_bytes());
  };
  const auto scales_of = [](const WeightMatrix& one) {
    return static_cast<std::size_t>(one.rows * one.row_scale_bytes());
  };
  std::size_t total = 0;
  for (const auto* one : all)
    total += rounded_up(values_of(*one), kLine) + rounded_up(scales_of(*one), kLine);
  packed_ = std::make_unique<HugeMemory>(total);
  std::byte* at = packed_->data();
  for (auto* one : all) {
    move_out(one->values, values_of(*one), at);
    one->values = at;
    at += rounded_up(values_of(*one), kLine);
    if (one->scales == nullptr) continue;
    move_out(one->scales, scales_of(*one), at);
    one->scales = at;
    at += rounded_up(scales_of(*one), kLine);
  }
}

}  // namespace rwkvx

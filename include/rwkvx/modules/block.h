// A block as a LibTorch module: the reference of its core, and its way on a GPU.
#pragma once

#include <torch/nn/module.h>

#include <functional>
#include <string>
#include <vector>

#include "rwkvx/cores/parameters.h"
#include "rwkvx/modules/shift.h"
#include "rwkvx/modules/state.h"
#include "rwkvx/ops/integer_matrix.h"

namespace rwkvx {

// What a block shows of itself while it runs, at each of its sites with a shift.
struct SiteView {
  std::string name;  // "att"
  at::Tensor input;  // (B, T, C), normalized
  at::Tensor gate;   // (B, T, C)
  at::Tensor added;  // (B, T, C), what the shift adds to the input
};

// What a call of a model gives to all of its blocks.
struct BlockContext {
  at::Tensor phi;                                 // position features, or undefined: see shift.h
  std::function<void(const SiteView&)> observer;  // called in order, where set
  // What the first block hands to the others of a call beside x, where a core has such a thing:
  // RWKV-7's values.
  at::Tensor* handed_on = nullptr;
  double dropout = 0;  // of the residual stream, behind each addition
  // Matrices that are held as integers, in place of parameters; null: none.
  const IntegerMatrices* integers = nullptr;

  at::Tensor dropped(const at::Tensor& x) const;
  // x (…, N) times the transposed of a parameter (M, N).
  at::Tensor linear(const at::Tensor& x, const at::Tensor& matrix) const;
};

// Registers a tensor of zeros for every row, "att.key.weight" as parameter `weight` of the
// submodule `key` of `att`; submodules that are there are used. Returns the tensors, in order.
std::vector<at::Tensor> register_rows(torch::nn::Module& module,
                                      const std::vector<ParameterRow>& rows);

class BlockImpl : public torch::nn::Module {
 public:
  // Registers the rows, whose names are within the block.
  explicit BlockImpl(const std::vector<ParameterRow>& rows);

  // x (B, T, C), the residual stream -> (B, T, C). Advances `state`.
  virtual at::Tensor forward(at::Tensor x, const BlockContext& context, LayerState& state) = 0;

  // Its sites with a shift, by name.
  virtual std::vector<std::pair<std::string, ShiftParameters>> shifts() const { return {}; }
  // Tokens after which the memory of one token has halved, of each channel; undefined where the
  // core has no such number.
  virtual at::Tensor half_lives() const { return {}; }
  // How much of what the state says about a key a token replaces, 0 to 1, of each channel;
  // undefined likewise.
  virtual at::Tensor in_context_rates() const { return {}; }

  // The parameter of that row.
  const at::Tensor& parameter(const std::string& name) const;

 private:
  std::vector<std::pair<std::string, at::Tensor>> by_name_;
};

}  // namespace rwkvx

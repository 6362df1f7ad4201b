// AdamW or Muon over one flat buffer that all parameters are views of.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "rwkvx/config/train_config.h"
#include "rwkvx/cores/parameters.h"

namespace rwkvx {

class Ema;
class Ranks;
class RwkvImpl;

// A parameter's learning rate multiplier: its row's, where the setting of its group is on.
double learning_rate_scale(const ParameterRow& row, const TrainingConfig& config);
// Weight decay of the matrices, 0 for everything else.
double weight_decay_of(const ParameterRow& row, const TrainingConfig& config);

// A float32 tensor that is trained and is no parameter of the model: a matrix of an adapter, an
// initial state.
struct ExtraParameter {
  std::string name;
  at::Tensor tensor;
  double rate = 1;   // multiplies the learning rate
  double decay = 0;  // weight decay
};

class Optimizer {
 public:
  // Moves the model's parameters and the extra tensors into a flat float32 buffer of its own, on
  // the device that the model is on, and gives them gradients of zeros in another (`.grad()`); they
  // are used as before. With a predicate, the rows for which it is false are frozen: they keep
  // their place, require no gradient, have none, no moments, and are never changed. With `ranks`,
  // which all have the same gradients, each takes its part of a step and keeps the moments of that
  // part alone (ZeRO-1, arXiv 1910.02054), unless shard_optimizer is off; the result is the same.
  Optimizer(RwkvImpl& model, const TrainingConfig& config,
            const std::function<bool(const ParameterRow&)>& trainable = {},
            const std::vector<ExtraParameter>& extra = {}, Ranks* ranks = nullptr);
  ~Optimizer();
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // The global 2-norm of the gradient.
  double grad_norm() const;
  // One step at learning rate `rate`, after which the gradients are zeros; gradients are
  // scaled so that their norm, which is `norm`, is at most grad_clip.
  void step(double rate, double norm);
  // Whether all that is trained is changed by kernels that step_unread() can rely on.
  bool steps_unread() const;
  // The same step from the loss on the device, without waiting for it: the norm, which is computed
  // there, comes back as a tensor of no dimension, float64. Where one of both is not finite,
  // neither this step nor any later one changes anything, and the gradients stay.
  at::Tensor step_unread(double rate, const at::Tensor& loss);
  // From now on every step writes the values of a parameter to its copy, in bfloat16, too, and so
  // does values_changed(). False, and neither does, where the parameter's rule cannot.
  bool keep_copy(const at::Tensor& parameter, const at::Tensor& copy);
  // To be called where anything else has changed what is trained.
  void values_changed();
  // Steps taken so far.
  std::int64_t steps() const;
  // Makes the gradients zeros without a step.
  void clear_gradients();
  // What is kept of what is trained from step to step under the parameters' names, to save and to
  // restore: "m.NAME" and "v.NAME" of AdamW (in 8 bits "m8.NAME", "m8_scale.NAME" and so on),
  // "momentum.NAME" of Muon; and the values of further tensors, which no checkpoint of the model
  // holds: "x.NAME". Where ranks share them out, all call this, and rank 0 gets them, copies.
  using Tensors = std::vector<std::pair<std::string, at::Tensor>>;
  Tensors moments() const;
  // fill() writes into all of moments().
  void set_moments(const std::function<void(const Tensors&)>& fill);
  void set_steps(std::int64_t steps);
  // Every rank gets what rank 0 has: the values, what set_moments() filled since the last call, the
  // averages, the steps.
  void share_state(Ranks& ranks);
  // What is trained, in the order of the flat buffer: gradients to be summed over ranks.
  struct Gradient {
    std::string name;
    bool extra = false;  // no parameter of the model
    float* values = nullptr;
    std::int64_t count = 0;
  };
  std::vector<Gradient> gradients() const;
  // The averages of the weights (train/ema.h), which every step carries on; null where there are
  // none.
  Ema* ema() const;
  // The name of the first of what is trained, or of its gradients, that holds a value that is not
  // finite, "" for none.
  std::string first_not_finite() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rwkvx

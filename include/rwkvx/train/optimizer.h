// AdamW over one flat buffer that all parameters are views of.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "rwkvx/config/train_config.h"
#include "rwkvx/cores/parameters.h"

namespace at {
class Tensor;
}

namespace rwkvx {

class RwkvImpl;

// A parameter's learning rate multiplier: its row's, where the setting of its group is on.
double learning_rate_scale(const ParameterRow& row, const TrainingConfig& config);
// Weight decay of the matrices, 0 for everything else.
double weight_decay_of(const ParameterRow& row, const TrainingConfig& config);

// A float32 tensor that is trained and is no parameter of the model.
struct ExtraTensor {
  std::string name;
  at::Tensor* tensor;
  double rate = 1, decay = 0;  // learning-rate multiplier and weight decay
};

class Optimizer {
 public:
  // Moves the model's parameters into a flat float32 buffer of its own, on the device that they are
  // on, and gives them gradients of zeros in another; the model is used as before. With a
  // predicate, the rows for which it is false are left alone: they keep their place, have no
  // gradient and no moments, and are never changed. `extra`: further tensors to train, which move
  // into the buffer likewise.
  Optimizer(RwkvImpl& model, const TrainingConfig& config,
            const std::function<bool(const ParameterRow&)>& trainable = {},
            const std::vector<ExtraTensor>& extra = {});
  ~Optimizer();
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // The global 2-norm of the gradient.
  double grad_norm() const;
  // One AdamW step at learning rate `rate`, after which the gradients are zeros; gradients are
  // scaled so that their norm, which is `norm`, is at most grad_clip.
  void step(double rate, double norm);
  // Steps taken so far.
  std::int64_t steps() const;
  // Both moments of what is trained under the parameters' names, to save and to restore: "m.NAME"
  // and "v.NAME"; and the values of further tensors, which no checkpoint of the model holds:
  // "x.NAME".
  std::vector<std::pair<std::string, at::Tensor>> moments() const;
  void set_steps(std::int64_t steps);
  // The name of the first parameter or gradient that holds a value that is not finite, "" for none.
  std::string first_not_finite() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rwkvx

// Batches that are alike but for their numbers, which a device starts as one graph.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <vector>

#include "rwkvx/modules/pass.h"
#include "rwkvx/ops/cuda/graph.h"

namespace rwkvx {

// All that the work of a batch depends on beside the numbers in memory.
struct BatchForm {
  std::vector<PassSequence> sequences;
  double scale = 0;
  std::vector<const void*> places;  // of parameters, gradients and states
  bool operator==(const BatchForm&) const = default;
};

class BatchGraph {
 public:
  // So many batches of a form in a row are computed before the next one is recorded.
  BatchGraph(c10::Device device, int before) : device_(device), before_(before) {}
  BatchGraph(const BatchGraph&) = delete;
  BatchGraph& operator=(const BatchGraph&) = delete;
  // What `work` gives for a batch of this form; a graph's result is written over by the next run().
  // Of several forms that take turns only the one that has a graph gains. `kept`: what `work` reads
  // of the batch beside memory that stays where it is. Throws Error where the device cannot record.
  at::Tensor run(const BatchForm& form, const at::Tensor& kept,
                 const std::function<at::Tensor()>& work);
  // Batches that a graph has done.
  std::int64_t started() const { return started_; }

 private:
  void record(const BatchForm& form, const at::Tensor& kept,
              const std::function<at::Tensor()>& work);

  c10::Device device_;
  int before_;
  BatchForm last_, recorded_;
  int alike_ = 0;  // batches of last_'s form in a row
  std::int64_t started_ = 0;
  at::Tensor kept_;
  std::unique_ptr<cuda::Graph> graph_;
  at::Tensor result_;  // where the graph leaves it
};

}  // namespace rwkvx

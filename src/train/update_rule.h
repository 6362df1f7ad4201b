// What an optimizer does to the parameters that are its own.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "rwkvx/config/train_config.h"
#include "rwkvx/cores/parameters.h"

namespace rwkvx {

// A parameter in the flat buffers of its rule.
struct Segment {
  ParameterRow row;
  int64_t offset = 0;
  double rate_scale = 1, decay = 0;

  // Its part of a flat buffer, in its shape.
  at::Tensor view(const at::Tensor& flat) const;
};

// Numbers [begin, begin + count) of a flat buffer.
struct FlatRange {
  int64_t begin = 0, count = 0;
};

struct RuleBuffers {
  at::Tensor values, grads;  // flat, float32; numbers outside of all segments are padding
  std::vector<Segment> segments;
  // Where several processes share the work out, each changes and keeps a part of its own.
  int parts = 1, part = 0;
  bool kernels = false;  // a device's kernels take the steps (modules/pass.h)
};

// A flat buffer of what a rule keeps, of which each part has a range.
struct FlatState {
  at::Tensor own;                 // this part's numbers; all, where there are no others
  std::vector<FlatRange> ranges;  // of all parts, one after the other
  int64_t size = 0;               // of all together
};

struct RuleStep {
  double rate = 0;         // before the parameters' own multipliers
  double clip = 1;         // what gradients are multiplied with
  std::int64_t taken = 1;  // steps with this one
  at::Tensor scale = {};   // times the clip: float32 of no dimension on the device; NaN: no step
};

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

class UpdateRule {
 public:
  UpdateRule(RuleBuffers buffers, const TrainingConfig& config)
      : buffers_(std::move(buffers)), config_(config) {}
  virtual ~UpdateRule() = default;
  // Changes this part's values by one step; its gradients are zeros afterwards.
  virtual void step(const RuleStep& step) = 0;
  // Whether a step takes RuleStep::scale.
  virtual bool takes_scale() const { return false; }
  // Whether every step from now on writes to a copy, in bfloat16, of the values of the segment at
  // `offset`.
  virtual bool keep_copy(int64_t /*offset*/, const at::Tensor& /*copy*/) { return false; }
  // The values that each part changes.
  virtual std::vector<FlatRange> values() const = 0;
  // What is kept from step to step.
  virtual std::vector<FlatState> state() const = 0;
  // The whole buffers, in the order of state(), as tensors by name, to save and to restore.
  virtual NamedTensors named(const std::vector<at::Tensor>& whole) const = 0;

 protected:
  RuleBuffers buffers_;
  TrainingConfig config_;
};

// Which parameters a rule can take, and how it is made.
struct RuleRow {
  bool (*takes)(const ParameterRow& row, const TrainingConfig& config);
  std::unique_ptr<UpdateRule> (*make)(RuleBuffers buffers, const TrainingConfig& config);
};

extern const RuleRow kAdamwRule;      // adamw_rule.cpp: everything
extern const RuleRow kAdamwInt8Rule;  // adamw_int8_rule.cpp: what is large, where moments = int8
extern const RuleRow kMuonRule;       // muon_rule.cpp: the matrices of the blocks

}  // namespace rwkvx

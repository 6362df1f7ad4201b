// AdamW with its moments in 8 bits (kernels/block_codes.h): 2 bytes per number instead of 8.
#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "rwkvx/base/splitmix64.h"
#include "rwkvx/kernels/adamw.h"
#include "rwkvx/kernels/block_codes.h"
#include "train/flat_tasks.h"
#include "train/update_rule.h"

namespace rwkvx {
namespace {

// Smaller parameters keep float32, as in arXiv 2110.02861: they take no memory to speak of.
constexpr int64_t kLeastNumbers = 4096;
static_assert(kTaskNumbers % kCodeBlock == 0);

class AdamwInt8Rule : public UpdateRule {
 public:
  AdamwInt8Rule(RuleBuffers buffers, const TrainingConfig& config)
      : UpdateRule(std::move(buffers), config), tasks_(flat_tasks(buffers_.segments)) {
    TORCH_CHECK(buffers_.values.is_cpu(), "8-bit moments are on the CPU alone");
    int64_t blocks = 0;
    for (const auto& segment : buffers_.segments) {
      first_block_.push_back(blocks);
      blocks += blocks_of(segment);
    }
    for (auto* codes : {&m_, &v_}) *codes = torch::zeros({blocks * kCodeBlock}, torch::kUInt8);
    for (auto* scales : {&m_scales_, &v_scales_}) *scales = torch::zeros({blocks});
  }

  void step(const RuleStep& step) override {
    at::parallel_for(0, static_cast<int64_t>(tasks_.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) run(tasks_[static_cast<size_t>(i)], step);
    });
  }

  NamedTensors state() const override {
    NamedTensors all;
    for (size_t i = 0; i < buffers_.segments.size(); ++i) {
      const auto& name = buffers_.segments[i].row.name;
      const auto begin = first_block_[i], end = begin + blocks_of(buffers_.segments[i]);
      all.emplace_back("m8." + name, m_.slice(0, begin * kCodeBlock, end * kCodeBlock));
      all.emplace_back("m8_scale." + name, m_scales_.slice(0, begin, end));
      all.emplace_back("v8." + name, v_.slice(0, begin * kCodeBlock, end * kCodeBlock));
      all.emplace_back("v8_scale." + name, v_scales_.slice(0, begin, end));
    }
    return all;
  }

 private:
  static int64_t blocks_of(const Segment& segment) {
    return (segment.row.count() + kCodeBlock - 1) / kCodeBlock;
  }

  void run(const FlatTask& task, const RuleStep& step) {
    const auto taken = static_cast<double>(step.taken);
    const auto m_scale = static_cast<float>(1 / (1 - std::pow(config_.beta1, taken))),
               v_scale = static_cast<float>(1 / (1 - std::pow(config_.beta2, taken)));
    const auto number = static_cast<size_t>(task.segment - buffers_.segments.data());
    auto block = first_block_[number] + (task.offset - task.segment->offset) / kCodeBlock;
    float m[kCodeBlock], v[kCodeBlock];
    for (int64_t begin = 0; begin < task.count; begin += kCodeBlock, ++block) {
      const auto count = std::min(kCodeBlock, task.count - begin);
      auto* m_codes = m_.mutable_data_ptr<std::uint8_t>() + block * kCodeBlock;
      auto* v_codes = v_.mutable_data_ptr<std::uint8_t>() + block * kCodeBlock;
      auto *m_block = m_scales_.mutable_data_ptr<float>() + block,
           *v_block = v_scales_.mutable_data_ptr<float>() + block;
      decode_signed(m_codes, *m_block, count, m);
      decode_positive(v_codes, *v_block, count, v);
      adamw_step({count, buffers_.values.mutable_data_ptr<float>() + task.offset + begin,
                  buffers_.grads.mutable_data_ptr<float>() + task.offset + begin, m, v,
                  static_cast<float>(step.clip),
                  static_cast<float>(step.rate * task.segment->rate_scale),
                  static_cast<float>(task.segment->decay), static_cast<float>(config_.beta1),
                  static_cast<float>(config_.beta2), static_cast<float>(config_.epsilon), m_scale,
                  v_scale});
      const auto key =
          splitmix64(static_cast<std::uint64_t>(step.taken), static_cast<std::uint64_t>(2 * block));
      encode_signed(m, count, key, m_codes, m_block);
      encode_positive(v, count, splitmix64_finalize(key), v_codes, v_block);
    }
  }

  std::vector<FlatTask> tasks_;
  std::vector<int64_t> first_block_;  // of each segment
  at::Tensor m_, v_;                  // codes, whole blocks
  at::Tensor m_scales_, v_scales_;    // of each block
};

}  // namespace

const RuleRow kAdamwInt8Rule{
    .takes =
        [](const ParameterRow& row, const TrainingConfig& config) {
          return config.moments == MomentType::kInt8 && row.count() >= kLeastNumbers;
        },
    .make = [](RuleBuffers buffers, const TrainingConfig& config) -> std::unique_ptr<UpdateRule> {
      return std::make_unique<AdamwInt8Rule>(std::move(buffers), config);
    }};

}  // namespace rwkvx

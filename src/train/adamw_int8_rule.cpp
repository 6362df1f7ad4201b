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
      : UpdateRule(std::move(buffers), config),
        tasks_(flat_tasks(buffers_.segments)),
        begins_(cut_into_parts(tasks_, buffers_.parts,
                               [](const FlatTask& task) { return task.count; })) {
    TORCH_CHECK(buffers_.values.is_cpu(), "8-bit moments are on the CPU alone");
    int64_t blocks = 0;
    for (const auto& segment : buffers_.segments) {
      first_block_.push_back(blocks);
      blocks += blocks_of(segment);
    }
    for (size_t p = 0; p + 1 < begins_.size(); ++p) {
      const auto block_at = [&](size_t task) {
        return task < tasks_.size() ? block_of(tasks_[task]) : blocks;
      };
      const auto first = block_at(begins_[p]);
      blocks_.push_back({first, block_at(begins_[p + 1]) - first});
    }
    for (auto* codes : {&m_, &v_}) *codes = torch::zeros({own().count * kCodeBlock}, torch::kUInt8);
    for (auto* scales : {&m_scales_, &v_scales_}) *scales = torch::zeros({own().count});
  }

  void step(const RuleStep& step) override {
    const auto number = static_cast<size_t>(buffers_.part);
    const auto first = static_cast<int64_t>(begins_[number]),
               last = static_cast<int64_t>(begins_[number + 1]);
    at::parallel_for(first, last, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) run(tasks_[static_cast<size_t>(i)], step);
    });
  }

  std::vector<FlatRange> values() const override { return ranges_of(tasks_, begins_); }
  std::vector<FlatState> state() const override {
    int64_t blocks = 0;
    std::vector<FlatRange> codes;
    for (const auto& range : blocks_) {
      blocks += range.count;
      codes.push_back({range.begin * kCodeBlock, range.count * kCodeBlock});
    }
    return {{m_, codes, blocks * kCodeBlock},
            {m_scales_, blocks_, blocks},
            {v_, codes, blocks * kCodeBlock},
            {v_scales_, blocks_, blocks}};
  }
  NamedTensors named(const std::vector<at::Tensor>& whole) const override {
    NamedTensors all;
    for (size_t i = 0; i < buffers_.segments.size(); ++i) {
      const auto& name = buffers_.segments[i].row.name;
      const auto begin = first_block_[i], end = begin + blocks_of(buffers_.segments[i]);
      all.emplace_back("m8." + name, whole[0].slice(0, begin * kCodeBlock, end * kCodeBlock));
      all.emplace_back("m8_scale." + name, whole[1].slice(0, begin, end));
      all.emplace_back("v8." + name, whole[2].slice(0, begin * kCodeBlock, end * kCodeBlock));
      all.emplace_back("v8_scale." + name, whole[3].slice(0, begin, end));
    }
    return all;
  }

 private:
  static int64_t blocks_of(const Segment& segment) {
    return (segment.row.count() + kCodeBlock - 1) / kCodeBlock;
  }
  int64_t block_of(const FlatTask& task) const {
    const auto number = static_cast<size_t>(task.segment - buffers_.segments.data());
    return first_block_[number] + (task.offset - task.segment->offset) / kCodeBlock;
  }
  const FlatRange& own() const { return blocks_[static_cast<size_t>(buffers_.part)]; }

  void run(const FlatTask& task, const RuleStep& step) {
    const auto taken = static_cast<double>(step.taken);
    const auto m_scale = static_cast<float>(1 / (1 - std::pow(config_.beta1, taken))),
               v_scale = static_cast<float>(1 / (1 - std::pow(config_.beta2, taken)));
    auto block = block_of(task);
    float m[kCodeBlock], v[kCodeBlock];
    for (int64_t begin = 0; begin < task.count; begin += kCodeBlock, ++block) {
      const auto count = std::min(kCodeBlock, task.count - begin);
      const auto kept = block - own().begin;
      auto* m_codes = m_.mutable_data_ptr<std::uint8_t>() + kept * kCodeBlock;
      auto* v_codes = v_.mutable_data_ptr<std::uint8_t>() + kept * kCodeBlock;
      auto *m_block = m_scales_.mutable_data_ptr<float>() + kept,
           *v_block = v_scales_.mutable_data_ptr<float>() + kept;
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
  std::vector<size_t> begins_;        // the first task of each part
  std::vector<int64_t> first_block_;  // of each segment
  std::vector<FlatRange> blocks_;     // of each part
  at::Tensor m_, v_;                  // codes of this part's whole blocks
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

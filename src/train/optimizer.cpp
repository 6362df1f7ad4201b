#include "rwkvx/train/optimizer.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "rwkvx/kernels/adamw.h"
#include "rwkvx/model/rwkv.h"
#include "rwkvx/modules/pass.h"
#include "train/ema.h"
#include "train/flat_tasks.h"
#include "train/ranks.h"
#include "train/update_rule.h"

namespace rwkvx {
namespace {

// Every parameter starts at a whole cache line of the flat buffers.
constexpr int64_t kAlign = 16;
constexpr int64_t kFloat = sizeof(float);

// An optimizer is a list of rules: a parameter goes to the first that takes it.
struct OptimizerRow {
  OptimizerKind kind;
  std::vector<const RuleRow*> rules;
};
const OptimizerRow kOptimizers[] = {
    {OptimizerKind::kAdamw, {&kAdamwInt8Rule, &kAdamwRule}},
    {OptimizerKind::kMuon, {&kMuonRule, &kAdamwInt8Rule, &kAdamwRule}},
};

const OptimizerRow& optimizer_row(OptimizerKind kind) {
  return *std::find_if(std::begin(kOptimizers), std::end(kOptimizers),
                       [&](const OptimizerRow& row) { return row.kind == kind; });
}

}  // namespace

at::Tensor Segment::view(const at::Tensor& flat) const {
  return flat.slice(0, offset, offset + row.count()).view(row.shape);
}

double learning_rate_scale(const ParameterRow& row, const TrainingConfig& config) {
  switch (row.rate_group) {
    case RateGroup::kNone:
      return row.rate;
    case RateGroup::kLayerwise:
      return config.layerwise_lr ? row.rate : 1;
    case RateGroup::kShift:
      return row.rate * config.shift_lr_scale;
  }
  return 1;
}

double weight_decay_of(const ParameterRow& row, const TrainingConfig& config) {
  return row.matrix && !row.transposed ? config.weight_decay : 0;
}

struct Optimizer::Impl {
  double grad_clip = 0;
  std::vector<Segment> segments;  // of all rules, in the flat buffers of all
  std::vector<FlatTask> tasks;
  at::Tensor values, grads;  // flat; those of a rule lie side by side
  std::vector<std::unique_ptr<UpdateRule>> rules;
  std::unique_ptr<Ema> ema;
  NamedTensors extra;  // what is trained and is no parameter of the model
  int64_t steps = 0;
  Ranks* ranks = nullptr;       // that share the rules' work out; null: no one does
  std::vector<int64_t> begins;  // of the rules, in the flat buffers
  // What set_moments() filled, until share_state(), where it is shared out.
  std::vector<std::vector<at::Tensor>> filled;

  // With step_unread(): 0, and NaN for good once a loss or a norm was not finite.
  at::Tensor health;
  std::vector<at::Tensor> copied, copies;

  void share_values() const;
  std::vector<at::Tensor> whole_state(const UpdateRule& rule) const;
  NamedTensors named(const std::vector<std::vector<at::Tensor>>& whole) const;
  void share_moments(Ranks& all);
};

// Every rank gets the values that the others have changed.
void Optimizer::Impl::share_values() const {
  for (size_t i = 0; i < rules.size(); ++i) {
    std::vector<Ranks::Range> ranges;
    for (const auto& range : rules[i]->values())
      ranges.push_back({(begins[i] + range.begin) * kFloat, range.count * kFloat});
    ranks->share_ranges(values.mutable_data_ptr<float>(), ranges);
  }
}

// A rule's buffers; of ranks that share them out, rank 0 gets copies, the others none.
std::vector<at::Tensor> Optimizer::Impl::whole_state(const UpdateRule& rule) const {
  std::vector<at::Tensor> whole;
  for (const auto& state : rule.state()) {
    if (ranks == nullptr) {
      whole.push_back(state.own);
      continue;
    }
    const auto item = static_cast<int64_t>(state.own.element_size());
    if (ranks->rank() != 0) {
      ranks->send(state.own.data_ptr(), state.own.numel() * item, 0);
      continue;
    }
    auto& all = whole.emplace_back(torch::zeros({state.size}, state.own.options()));
    for (int rank = 0; rank < ranks->size(); ++rank) {
      const auto& range = state.ranges[static_cast<size_t>(rank)];
      auto place = all.narrow(0, range.begin, range.count);
      if (rank == 0)
        place.copy_(state.own);
      else
        ranks->receive(place.data_ptr(), range.count * item, rank);
    }
  }
  return whole;
}

NamedTensors Optimizer::Impl::named(const std::vector<std::vector<at::Tensor>>& whole) const {
  NamedTensors all;
  for (size_t i = 0; i < rules.size(); ++i)
    for (auto& tensor : rules[i]->named(whole[i])) all.push_back(std::move(tensor));
  for (const auto& [name, tensor] : extra) all.emplace_back("x." + name, tensor);
  return all;
}

void Optimizer::Impl::share_moments(Ranks& all) {
  for (size_t i = 0; i < rules.size(); ++i) {
    const auto states = rules[i]->state();
    for (size_t s = 0; s < states.size(); ++s) {
      const auto& own = states[s].own;
      const auto item = static_cast<int64_t>(own.element_size());
      if (ranks == nullptr) {
        all.broadcast_values(own.data_ptr(), own.numel() * item);
      } else if (all.rank() != 0) {
        all.receive(own.data_ptr(), own.numel() * item, 0);
      } else {
        for (int rank = 1; rank < all.size(); ++rank) {
          const auto& range = states[s].ranges[static_cast<size_t>(rank)];
          all.send(filled[i][s].narrow(0, range.begin, range.count).data_ptr(), range.count * item,
                   rank);
        }
      }
    }
  }
  filled.clear();
}

Optimizer::Optimizer(RwkvImpl& model, const TrainingConfig& config,
                     const std::function<bool(const ParameterRow&)>& trainable,
                     const std::vector<ExtraParameter>& extra, Ranks* ranks)
    : impl_(std::make_unique<Impl>()) {
  const torch::NoGradGuard no_grad;
  if (config.shard_optimizer) impl_->ranks = ranks;
  const int parts = impl_->ranks == nullptr ? 1 : ranks->size(),
            part = impl_->ranks == nullptr ? 0 : ranks->rank();
  auto parameters = model.named_parameters();
  const auto device = parameters.begin()->value().device();
  impl_->grad_clip = config.grad_clip;
  const auto& rules = optimizer_row(config.optimizer).rules;
  std::vector<std::vector<Segment>> taken(rules.size());
  std::vector<std::vector<at::Tensor>> tensors(rules.size());
  const auto add = [&](const at::Tensor& tensor, const ParameterRow& row, double rate,
                       double decay) {
    size_t rule = 0;
    while (!rules[rule]->takes(row, config)) ++rule;
    taken[rule].push_back({row, 0, rate, decay});
    tensors[rule].push_back(tensor);
  };
  for (const auto& row : describe_parameters(model.config())) {
    auto& parameter = parameters[row.name];
    if (trainable && !trainable(row))
      parameter.set_requires_grad(false);
    else
      add(parameter, row, learning_rate_scale(row, config), weight_decay_of(row, config));
  }
  for (const auto& one : extra) {
    TORCH_CHECK(one.tensor.defined() && one.tensor.scalar_type() == torch::kFloat32,
                "Optimizer: ", one.name, " must be float32");
    ParameterRow row;
    row.name = one.name;
    row.shape = one.tensor.sizes().vec();
    add(one.tensor, row, one.rate, one.decay);
  }
  int64_t size = 0;
  std::vector<int64_t> begins;  // of the rules
  std::vector<at::Tensor> trained;
  for (size_t i = 0; i < rules.size(); ++i) {
    begins.push_back(size);
    trained.insert(trained.end(), tensors[i].begin(), tensors[i].end());
    for (auto& segment : taken[i]) {
      segment.offset = size;
      size += (segment.row.count() + kAlign - 1) / kAlign * kAlign;
      impl_->segments.push_back(segment);
    }
  }
  begins.push_back(size);
  impl_->tasks = flat_tasks(impl_->segments);
  // What is trained moves first, so that its old places are free before the other buffers exist.
  impl_->values = torch::zeros({size}, device);
  for (size_t i = 0; i < trained.size(); ++i) {
    const auto place = impl_->segments[i].view(impl_->values);
    place.copy_(trained[i]);
    trained[i].set_data(place);
  }
  impl_->grads = torch::zeros({size}, device);
  for (size_t i = 0; i < trained.size(); ++i)
    trained[i].mutable_grad() = impl_->segments[i].view(impl_->grads);
  for (const auto& one : extra) impl_->extra.emplace_back(one.name, one.tensor.detach());
  for (size_t i = 0; i < rules.size(); ++i) {
    if (taken[i].empty()) continue;
    for (auto& segment : taken[i]) segment.offset -= begins[i];
    impl_->begins.push_back(begins[i]);
    impl_->rules.push_back(
        rules[i]->make({impl_->values.slice(0, begins[i], begins[i + 1]),
                        impl_->grads.slice(0, begins[i], begins[i + 1]), std::move(taken[i]), parts,
                        part, PassPlace::of(device, /*bfloat16=*/false).kernels},
                       config));
  }
  if (config.ema_decay > 0) {
    NamedTensors all;
    for (const auto& segment : impl_->segments)
      all.emplace_back(segment.row.name, segment.view(impl_->values));
    impl_->ema =
        std::make_unique<Ema>(std::move(all), config.ema_decay, [this] { values_changed(); });
  }
}

Optimizer::~Optimizer() = default;

double Optimizer::grad_norm() const {
  if (!impl_->grads.is_cpu()) return impl_->grads.norm().item<double>();
  const float* grads = impl_->grads.const_data_ptr<float>();
  std::vector<double> sums(impl_->tasks.size());
  at::parallel_for(0, static_cast<int64_t>(sums.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto& task = impl_->tasks[static_cast<size_t>(i)];
      sums[static_cast<size_t>(i)] = sum_of_squares(grads + task.offset, task.count);
    }
  });
  double sum = 0;
  for (const double one : sums) sum += one;
  return std::sqrt(sum);
}

void Optimizer::step(double rate, double norm) {
  const double clip = impl_->grad_clip > 0 && norm > impl_->grad_clip ? impl_->grad_clip / norm : 1;
  ++impl_->steps;
  for (const auto& rule : impl_->rules) rule->step({rate, clip, impl_->steps});
  if (impl_->ranks != nullptr) {
    impl_->grads.zero_();  // those of the others' parts, too
    impl_->share_values();
  }
  if (impl_->ema != nullptr) impl_->ema->update(impl_->steps);
}

bool Optimizer::steps_unread() const {
  return impl_->ranks == nullptr &&
         std::ranges::all_of(impl_->rules, [](const auto& rule) { return rule->takes_scale(); });
}

at::Tensor Optimizer::step_unread(double rate, const at::Tensor& loss) {
  const torch::NoGradGuard no_grad;
  auto& own = *impl_;
  const auto norm = own.grads.norm().to(torch::kFloat64);
  const auto now = (loss + norm) * 0;
  own.health = own.health.defined() ? own.health + now : now;
  const auto clip =
      own.grad_clip > 0 ? (own.grad_clip / norm).clamp_max(1) : torch::ones_like(norm);
  RuleStep step{rate, 1, ++own.steps};
  step.scale = (clip + own.health).to(torch::kFloat32);
  for (const auto& rule : own.rules) rule->step(step);
  if (own.ema != nullptr) own.ema->update(own.steps);
  return norm;
}

bool Optimizer::keep_copy(const at::Tensor& parameter, const at::Tensor& copy) {
  const auto* first = parameter.const_data_ptr<float>();
  const auto place = first - impl_->values.const_data_ptr<float>();
  const auto segment = std::ranges::find_if(impl_->segments, [&](const Segment& one) {
    return one.offset == place && one.row.count() == copy.numel();
  });
  if (segment == impl_->segments.end() || copy.scalar_type() != torch::kBFloat16) return false;
  size_t rule = impl_->rules.size() - 1;
  while (impl_->begins[rule] > place) --rule;
  if (!impl_->rules[rule]->keep_copy(place - impl_->begins[rule], copy)) return false;
  impl_->copied.push_back(segment->view(impl_->values));
  impl_->copies.push_back(copy);
  return true;
}

void Optimizer::values_changed() {
  const torch::NoGradGuard no_grad;
  if (!impl_->copies.empty()) at::_foreach_copy_(impl_->copies, impl_->copied);
}

void Optimizer::clear_gradients() { impl_->grads.zero_(); }

Ema* Optimizer::ema() const { return impl_->ema.get(); }

std::int64_t Optimizer::steps() const { return impl_->steps; }
void Optimizer::set_steps(std::int64_t steps) { impl_->steps = steps; }

Optimizer::Tensors Optimizer::moments() const {
  std::vector<std::vector<at::Tensor>> whole;
  for (const auto& rule : impl_->rules) whole.push_back(impl_->whole_state(*rule));
  if (impl_->ranks != nullptr && impl_->ranks->rank() != 0) return {};
  return impl_->named(whole);
}

void Optimizer::set_moments(const std::function<void(const Tensors&)>& fill) {
  std::vector<std::vector<at::Tensor>> whole;
  for (const auto& rule : impl_->rules) {
    auto& all = whole.emplace_back();
    for (const auto& state : rule->state())
      all.push_back(impl_->ranks == nullptr ? state.own
                                            : torch::zeros({state.size}, state.own.options()));
  }
  fill(impl_->named(whole));
  if (impl_->ranks == nullptr) return;
  for (size_t i = 0; i < whole.size(); ++i) {
    const auto states = impl_->rules[i]->state();
    for (size_t s = 0; s < states.size(); ++s) {
      const auto& range = states[s].ranges[static_cast<size_t>(impl_->ranks->rank())];
      auto own = states[s].own;
      own.copy_(whole[i][s].narrow(0, range.begin, range.count));
    }
  }
  impl_->filled = std::move(whole);
}

void Optimizer::share_state(Ranks& ranks) {
  ranks.broadcast(&impl_->steps, sizeof impl_->steps, 0);
  ranks.broadcast_values(impl_->values.data_ptr(), impl_->values.numel() * kFloat);
  values_changed();
  if (impl_->steps > 0) impl_->share_moments(ranks);  // else they are zeros
  if (impl_->ema == nullptr) return;
  for (const auto& [name, tensor] : impl_->ema->state())
    ranks.broadcast_values(tensor.data_ptr(), tensor.numel() * kFloat);
}

std::vector<Optimizer::Gradient> Optimizer::gradients() const {
  std::vector<Gradient> all;
  float* grads = impl_->grads.mutable_data_ptr<float>();
  for (const auto& segment : impl_->segments) {
    const bool extra = std::ranges::any_of(
        impl_->extra, [&](const auto& one) { return one.first == segment.row.name; });
    all.push_back({segment.row.name, extra, grads + segment.offset, segment.row.count()});
  }
  return all;
}

std::string Optimizer::first_not_finite() const {
  for (const auto& [flat, what] :
       {std::pair{impl_->values, "parameter "}, std::pair{impl_->grads, "gradient of "}})
    for (const auto& segment : impl_->segments)
      if (!torch::isfinite(segment.view(flat)).all().item<bool>()) return what + segment.row.name;
  return "";
}

}  // namespace rwkvx

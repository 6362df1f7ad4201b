#include "cores/rwkv7/step.h"

#include "cores/rwkv7/head_kernel.h"
#include "cores/rwkv7/parameters.h"
#include "cores/shift/step.h"
#include "rwkvx/kernels/activation.h"

namespace rwkvx::rwkv7 {
namespace {

// Buffers of a call, (R, C) but for the insides of the pairs (R, rank) and hidden (R, F).
enum Buffer : std::size_t {
  kZr,
  kZw,
  kZk,
  kZv,
  kZa,
  kZg,
  kNormal,
  kShiftGate,
  kR,
  kK,
  kV,
  kG,
  kW,
  kA,
  kShare,
  kWIn,
  kAIn,
  kVIn,
  kGIn,
  kY,
  kProduct,
  kHidden,
  kVFirst  // the first block's values, which the others of a call read
};

class Step : public BlockStep {
 public:
  explicit Step(const StepSetup& setup)
      : layer_(setup.layer),
        size_(setup.config),
        places_(setup.config),
        att_(setup, "ln1", setup.config.shift.at_first() ? "att.shift." : "",
             {"att.x_r", "att.x_w", "att.x_k", "att.x_v", "att.x_a", "att.x_g"}, places_.att,
             MixShares::kBefore),
        ffn_(setup, "ln2", setup.config.shift.at_second() ? "ffn.shift." : "", {"ffn.x_k"},
             places_.ffn, MixShares::kBefore) {
    const auto pair = [&](const std::string& name) {
      return Pair{setup.matrix("att." + name + "1"), setup.matrix("att." + name + "2")};
    };
    receptance_ = setup.matrix("att.receptance.weight"), key_ = setup.matrix("att.key.weight");
    value_ = setup.matrix("att.value.weight"), output_ = setup.matrix("att.output.weight");
    w_ = pair("w"), a_ = pair("a"), g_ = pair("g");
    head_ = {size_.N,
             setup.vector("att.w0"),
             setup.vector("att.a0"),
             nullptr,
             setup.vector("att.k_k"),
             setup.vector("att.k_a"),
             setup.vector("att.r_k"),
             setup.vector("att.ln_x.weight"),
             setup.vector("att.ln_x.bias")};
    if (layer_ > 0) v_ = pair("v"), head_.v0 = setup.vector("att.v0");
    ffn_key_ = setup.matrix("ffn.key.weight"), ffn_value_ = setup.matrix("ffn.value.weight");
  }

  std::vector<WeightMatrix*> matrices() override {
    std::vector<WeightMatrix*> all{&receptance_, &key_, &value_, &w_.first, &a_.first};
    if (layer_ > 0) all.push_back(&v_.first);
    all.insert(all.end(), {&g_.first, &w_.second, &a_.second});
    if (layer_ > 0) all.push_back(&v_.second);
    all.insert(all.end(), {&g_.second, &output_, &ffn_key_, &ffn_value_});
    return all;
  }

  void prepare(StepRun& run) override {
    att_.prepare(run, {{kZr, kZw, kZk, kZv, kZa, kZg}, kNormal, kShiftGate});
    ffn_.prepare(run, {{kZr}, kNormal, kShiftGate});
    for (const auto one : {kR, kK, kV, kG, kW, kA, kShare, kY, kProduct, kVFirst})
      run.reserve(one, size_.C);
    run.reserve(kWIn, size_.decay), run.reserve(kAIn, size_.iclr);
    run.reserve(kVIn, size_.value), run.reserve(kGIn, size_.gate);
    run.reserve(kHidden, size_.F);
  }

  void run(const Worker& worker, StepRun& run) override {
    time_mix(worker, run);
    channel_mix(worker, run);
  }

 private:
  struct Pair {
    WeightMatrix first, second;  // (rank, C), (C, rank)
  };
  // f(numbers, count) on what multiply() left to this worker, (R, width).
  template <class F>
  static void apply(const Worker& worker, const StepRun& run, float* rows, std::int64_t width,
                    const F& f) {
    const auto [first, last] = run.own_part(worker, width);
    for (std::int64_t i = 0; i < run.rows(); ++i) f(rows + i * width + first, last - first);
  }
  void add_product(const Worker& worker, StepRun& run) const {
    const auto own = run.own_part(worker, size_.C);
    for (std::int64_t i = 0; i < run.rows(); ++i) {
      const std::int64_t at = i * size_.C + own.first;
      add_to(run.x() + at, run.buffer(kProduct) + at, own.last - own.first);
    }
    worker.meet();
  }

  void time_mix(const Worker& worker, StepRun& run) {
    const std::int64_t R = run.rows();
    const auto multiply = [&](const WeightMatrix& matrix, Buffer from, Buffer to) {
      run.multiply(worker, matrix, run.buffer(from), R, run.buffer(to));
    };
    const Buffer values = layer_ == 0 ? kVFirst : kV;
    att_.run(worker, run);
    multiply(receptance_, kZr, kR);
    multiply(key_, kZk, kK);
    multiply(value_, kZv, values);
    multiply(w_.first, kZw, kWIn);
    apply(worker, run, run.buffer(kWIn), size_.decay, tanh_forward);
    multiply(a_.first, kZa, kAIn);
    if (layer_ > 0) multiply(v_.first, kZv, kVIn);
    multiply(g_.first, kZg, kGIn);
    apply(worker, run, run.buffer(kGIn), size_.gate, sigmoid_forward);
    worker.meet();
    multiply(w_.second, kWIn, kW);
    multiply(a_.second, kAIn, kA);
    if (layer_ > 0) multiply(v_.second, kVIn, kShare);
    multiply(g_.second, kGIn, kG);
    worker.meet();
    run_heads(worker, run, values);
    worker.meet();
    multiply(output_, kY, kProduct);
    add_product(worker, run);
  }

  void run_heads(const Worker& worker, StepRun& run, Buffer values) const {
    const auto pieces = run.pieces();
    const auto [first, last] = worker.part(static_cast<std::int64_t>(pieces.size()) * size_.H, 1);
    for (std::int64_t task = first; task < last; ++task) {
      const auto& piece = pieces[static_cast<std::size_t>(task / size_.H)];
      const std::int64_t head = task % size_.H;
      const auto of = [&](Buffer buffer) { return run.buffer(buffer) + piece.first * size_.C; };
      HeadForward call{head_,
                       {piece.tokens, size_.C, of(kR), of(kK), of(values), of(kG), of(kW), of(kA),
                        of(kShare), of(kVFirst)}};
      call.state_out = run.state(piece, layer_, places_.wkv) + head * size_.N * size_.N;
      call.state_in = call.state_out;
      call.out = of(kY);
      head_forward(call, head);
    }
  }

  void channel_mix(const Worker& worker, StepRun& run) {
    ffn_.run(worker, run);
    float* h = run.buffer(kHidden);
    run.multiply(worker, ffn_key_, run.buffer(kZr), run.rows(), h);
    apply(worker, run, h, size_.F, relu_square_forward);
    worker.meet();
    run.multiply(worker, ffn_value_, h, run.rows(), run.buffer(kProduct));
    add_product(worker, run);
  }

  std::int64_t layer_;
  Sizes size_;
  StatePlaces places_;
  ShiftStep att_, ffn_;
  HeadWeights head_;
  WeightMatrix receptance_, key_, value_, output_;  // (C, C)
  Pair w_, a_, v_, g_;
  WeightMatrix ffn_key_, ffn_value_;  // (F, C), (C, F)
};

}  // namespace

std::unique_ptr<BlockStep> make_step(const StepSetup& setup) {
  return std::make_unique<Step>(setup);
}

}  // namespace rwkvx::rwkv7

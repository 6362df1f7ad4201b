#include "cores/rwkv4/step.h"

#include <cmath>

#include "cores/rwkv4/parameters.h"
#include "cores/rwkv4/step_kernel.h"
#include "cores/shift/step.h"
#include "rwkvx/kernels/activation.h"

namespace rwkvx::rwkv4 {
namespace {

// Buffers of a call, (R, C) but for k, v, r, y (R, A) and hidden (R, F).
enum Buffer : std::size_t {
  kZ0,
  kZ1,
  kZ2,
  kNormal,
  kGate,
  kProduct,
  kFfnR,
  kK,
  kV,
  kR,
  kY,
  kHidden
};

class Step : public BlockStep {
 public:
  explicit Step(const StepSetup& setup)
      : layer_(setup.layer),
        places_(setup.config),
        att_(setup, "ln1", setup.config.shift.at_first() ? "att.shift." : "",
             {"att.time_mix_k", "att.time_mix_v", "att.time_mix_r"}, places_.att),
        ffn_(setup, "ln2", setup.config.shift.at_second() ? "ffn.shift." : "",
             {"ffn.time_mix_k", "ffn.time_mix_r"}, places_.ffn) {
    A_ = setup.config.att_channels(), F_ = setup.config.ffn_channels();
    C_ = setup.config.n_embd;
    auto* w = setup.vector("att.time_decay");
    for (std::int64_t c = 0; c < A_; ++c) w[c] = -std::exp(w[c]);
    w_ = w, u_ = setup.vector("att.time_first");
    key_ = setup.matrix("att.key.weight"), value_ = setup.matrix("att.value.weight");
    receptance_ = setup.matrix("att.receptance.weight");
    output_ = setup.matrix("att.output.weight");
    ffn_key_ = setup.matrix("ffn.key.weight");
    ffn_receptance_ = setup.matrix("ffn.receptance.weight");
    ffn_value_ = setup.matrix("ffn.value.weight");
  }

  std::vector<WeightMatrix*> matrices() override {
    return {&key_, &value_, &receptance_, &output_, &ffn_key_, &ffn_receptance_, &ffn_value_};
  }

  void prepare(StepRun& run) override {
    att_.prepare(run, {{kZ0, kZ1, kZ2}, kNormal, kGate});
    ffn_.prepare(run, {{kZ0, kZ1}, kNormal, kGate});
    for (const auto one : {kProduct, kFfnR}) run.reserve(one, C_);
    for (const auto one : {kK, kV, kR, kY}) run.reserve(one, A_);
    run.reserve(kHidden, F_);
  }

  void run(const Worker& worker, StepRun& run) override {
    time_mix(worker, run);
    channel_mix(worker, run);
  }

 private:
  void time_mix(const Worker& worker, StepRun& run) {
    const std::int64_t R = run.rows();
    float *k = run.buffer(kK), *v = run.buffer(kV), *r = run.buffer(kR), *y = run.buffer(kY),
          *product = run.buffer(kProduct);
    att_.run(worker, run);
    const auto for_key = run.input(worker, key_, run.buffer(kZ0), R),
               for_value = run.input(worker, value_, run.buffer(kZ1), R),
               for_receptance = run.input(worker, receptance_, run.buffer(kZ2), R);
    run.meet_inputs(worker);
    run.share(worker, R, A_, [&](std::int64_t first, std::int64_t last) {
      run.multiply({{key_, for_key, k}, {value_, for_value, v}, {receptance_, for_receptance, r}},
                   first, last);
      for (const auto& piece : run.pieces()) {
        const std::int64_t at = piece.first * A_;
        wkv_rows({piece.tokens, A_, w_, u_, k + at, v + at, r + at,
                  run.state(piece, layer_, places_.wkv), y + at},
                 first, last);
      }
    });
    worker.meet();
    run.add_product(worker, output_, y, product);
  }

  void channel_mix(const Worker& worker, StepRun& run) {
    const std::int64_t R = run.rows();
    float *h = run.buffer(kHidden), *r = run.buffer(kFfnR), *product = run.buffer(kProduct);
    ffn_.run(worker, run);
    const auto for_key = run.input(worker, ffn_key_, run.buffer(kZ0), R),
               for_receptance = run.input(worker, ffn_receptance_, run.buffer(kZ1), R);
    run.meet_inputs(worker);
    run.share(worker, R, F_, [&](std::int64_t first, std::int64_t last) {
      run.multiply({{ffn_key_, for_key, h}}, first, last);
      for (std::int64_t at = first; at < R * F_; at += F_)
        relu_square_forward(h + at, last - first);
    });
    run.share(worker, R, C_, [&](std::int64_t first, std::int64_t last) {
      run.multiply({{ffn_receptance_, for_receptance, r}}, first, last);
    });
    worker.meet();
    const auto for_value = run.input(worker, ffn_value_, h, R);
    run.meet_inputs(worker);
    run.share(worker, R, C_, [&](std::int64_t first, std::int64_t last) {
      run.multiply({{ffn_value_, for_value, product}}, first, last);
      for (std::int64_t at = first; at < R * C_; at += C_)
        gated_residual_forward(run.x() + at, r + at, product + at, run.x() + at, last - first);
    });
    worker.meet();
  }

  std::int64_t layer_, C_ = 0, A_ = 0, F_ = 0;
  StatePlaces places_;
  ShiftStep att_, ffn_;
  const float *w_ = nullptr, *u_ = nullptr;  // (A): the decay of one step in log space, the bonus
  WeightMatrix key_, value_, receptance_, output_;     // (A, C), and (C, A)
  WeightMatrix ffn_key_, ffn_receptance_, ffn_value_;  // (F, C), (C, C), (C, F)
};

}  // namespace

std::unique_ptr<BlockStep> make_step(const StepSetup& setup) {
  return std::make_unique<Step>(setup);
}

}  // namespace rwkvx::rwkv4

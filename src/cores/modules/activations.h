// The elementwise steps between a block's matrix products (kernels/activation.h) on whole tensors,
// wherever a pass computes.
#pragma once

#include "rwkvx/modules/pass.h"

namespace rwkvx {

class Activations {
 public:
  explicit Activations(PassTools& tools) : tools_(tools), op_(tools.operator_at("activation")) {}

  // y = x + o.
  void residual(const at::Tensor& x, const at::Tensor& o, const at::Tensor& y) const;
  // y = x + sigmoid(r) v.
  void gated_residual(const at::Tensor& x, const at::Tensor& r, const at::Tensor& v,
                      const at::Tensor& y) const;
  // From dy: the gradients of r and v.
  void gated_residual_adjoint(const at::Tensor& dy, const at::Tensor& r, const at::Tensor& v,
                              const at::Tensor& dr, const at::Tensor& dv) const;
  // In place; and from the results h, the gradients of what they were made of over theirs.
  void relu_square(const at::Tensor& h) const;
  void relu_square_adjoint(const at::Tensor& h, const at::Tensor& dh) const;
  void tanh(const at::Tensor& h) const;
  void tanh_adjoint(const at::Tensor& h, const at::Tensor& dh) const;
  void sigmoid(const at::Tensor& h) const;
  void sigmoid_adjoint(const at::Tensor& h, const at::Tensor& dh) const;

 private:
  static const float* read(const at::Tensor& t) { return PassTools::read(t); }
  static float* data(const at::Tensor& t) { return PassTools::data(t); }
  template <class Run>
  void each(const at::Tensor& like, const Run& run) const {
    PassTools::in_parallel(like.numel(), PassTools::kElements, run);
  }
  template <template <class> class Step, class Kernel>
  void in_place(const at::Tensor& h, const Kernel& kernel) const;
  template <template <class> class Step, class Kernel>
  void adjoint(const at::Tensor& h, const at::Tensor& dh, const Kernel& kernel) const;

  PassTools& tools_;
  std::size_t op_;
};

}  // namespace rwkvx

#include "cores/modules/activations.h"

#include "rwkvx/kernels/activation.h"
#include "rwkvx/ops/cuda/elementwise_call.h"

namespace rwkvx {

void Activations::residual(const at::Tensor& x, const at::Tensor& o, const at::Tensor& y) const {
  const PassTools::Timed timed(tools_, op_);
  if (tools_.place.kernels)
    return cuda::with_type(o.scalar_type(), [&]<class Value>() {
      cuda::for_each(cuda::Residual<Value>{read(x), cuda::data<Value>(o), data(y)}, y);
    });
  each(y, [&](int64_t first, int64_t last) {
    residual_forward(read(x) + first, read(o) + first, data(y) + first, last - first);
  });
}

void Activations::gated_residual(const at::Tensor& x, const at::Tensor& r, const at::Tensor& v,
                                 const at::Tensor& y) const {
  const PassTools::Timed timed(tools_, op_);
  if (tools_.place.kernels)
    return cuda::with_type(v.scalar_type(), [&]<class Value>() {
      cuda::for_each(
          cuda::GatedResidual<Value>{read(x), cuda::data<Value>(r), cuda::data<Value>(v), data(y)},
          y);
    });
  each(y, [&](int64_t first, int64_t last) {
    gated_residual_forward(read(x) + first, read(r) + first, read(v) + first, data(y) + first,
                           last - first);
  });
}

void Activations::gated_residual_adjoint(const at::Tensor& dy, const at::Tensor& r,
                                         const at::Tensor& v, const at::Tensor& dr,
                                         const at::Tensor& dv) const {
  const PassTools::Timed timed(tools_, op_);
  if (tools_.place.kernels)
    return cuda::with_type(v.scalar_type(), [&]<class Value>() {
      cuda::for_each(
          cuda::GatedResidualAdjoint<Value>{read(dy), cuda::data<Value>(r), cuda::data<Value>(v),
                                            cuda::mutable_data<Value>(dr),
                                            cuda::mutable_data<Value>(dv)},
          dy);
    });
  each(dy, [&](int64_t first, int64_t last) {
    gated_residual_backward(read(dy) + first, read(r) + first, read(v) + first, data(dr) + first,
                            data(dv) + first, last - first);
  });
}

// A step in place.
template <template <class> class Step, class Kernel>
void Activations::in_place(const at::Tensor& h, const Kernel& kernel) const {
  const PassTools::Timed timed(tools_, op_);
  if (tools_.place.kernels)
    return cuda::with_type(h.scalar_type(), [&]<class Value>() {
      cuda::for_each(Step<Value>{cuda::mutable_data<Value>(h)}, h);
    });
  each(h, [&](int64_t first, int64_t last) { kernel(data(h) + first, last - first); });
}
// Its adjoint, over the gradient.
template <template <class> class Step, class Kernel>
void Activations::adjoint(const at::Tensor& h, const at::Tensor& dh, const Kernel& kernel) const {
  const PassTools::Timed timed(tools_, op_);
  if (tools_.place.kernels)
    return cuda::with_type(h.scalar_type(), [&]<class Value>() {
      cuda::for_each(Step<Value>{cuda::data<Value>(h), cuda::mutable_data<Value>(dh)}, h);
    });
  each(h, [&](int64_t first, int64_t last) {
    kernel(read(h) + first, data(dh) + first, last - first);
  });
}

void Activations::relu_square(const at::Tensor& h) const {
  in_place<cuda::ReluSquare>(h, relu_square_forward);
}
void Activations::relu_square_adjoint(const at::Tensor& h, const at::Tensor& dh) const {
  adjoint<cuda::ReluSquareAdjoint>(h, dh, relu_square_backward);
}
void Activations::tanh(const at::Tensor& h) const { in_place<cuda::Tanh>(h, tanh_forward); }
void Activations::tanh_adjoint(const at::Tensor& h, const at::Tensor& dh) const {
  adjoint<cuda::TanhAdjoint>(h, dh, tanh_backward);
}
void Activations::sigmoid(const at::Tensor& h) const {
  in_place<cuda::Sigmoid>(h, sigmoid_forward);
}
void Activations::sigmoid_adjoint(const at::Tensor& h, const at::Tensor& dh) const {
  adjoint<cuda::SigmoidAdjoint>(h, dh, sigmoid_backward);
}

}  // namespace rwkvx

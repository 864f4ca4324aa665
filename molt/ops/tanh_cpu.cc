// CPU kernels of tanh: some rows of a small network, so no vectors.
#include <cmath>

#include "molt/device/cpu/parallel.h"
#include "molt/ops/tanh.h"

namespace molt::ops {
namespace {

constexpr int64_t kGrain = 1 << 12;  // elements below which a second thread costs more than it brings

void forward(const Tensor& x, const Tensor& y) {
  with_compute_type(x.dtype(), [&](auto t) {
    using T = decltype(t);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    parallel_for(x.numel(), kGrain, [=](int64_t i) { out[i] = std::tanh(in[i]); });
  });
}

void backward(const Tensor& dy, const Tensor& y, const GradOut& dx) {
  with_compute_type(y.dtype(), [&](auto t) {
    using T = decltype(t);
    const T *g = dy.data<T>(), *v = y.data<T>();
    T* out = dx.tensor.data<T>();
    const bool more = dx.accumulate;
    parallel_for(y.numel(), kGrain, [=](int64_t i) { out[i] = (more ? out[i] : T(0)) + g[i] * (1 - v[i] * v[i]); });
  });
}

MOLT_KERNELS(tanh_kernels, Device::kCpu, {forward, backward});

}  // namespace
}  // namespace molt::ops

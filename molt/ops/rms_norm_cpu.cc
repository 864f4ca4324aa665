// CPU kernels of rms_norm.
#include "molt/ops/rms_norm.h"

#include <cmath>
#include <vector>

#include "molt/device/cpu/parallel.h"

#include "molt/ops/simd.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "molt/ops/rms_norm_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace molt::ops::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
void forward_rows(const Tensor& x, const Tensor& weight, double eps, const Tensor& y, const Tensor& inv_rms) {
  const hn::ScalableTag<T> d;
  const int64_t n = x.cols(), lanes = static_cast<int64_t>(hn::Lanes(d));
  const T* w = weight.data<T>();
  parallel_for(x.rows(), 16, [&](int64_t row) {
    const T* in = x.data<T>() + row * x.ld();
    T* out = y.data<T>() + row * y.ld();
    auto sum = hn::Zero(d);
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      const auto v = hn::LoadU(d, in + i);
      sum = hn::MulAdd(v, v, sum);
    }
    T total = hn::GetLane(hn::SumOfLanes(d, sum));
    for (; i < n; ++i) total += in[i] * in[i];
    const T scale = T(1) / std::sqrt(total / static_cast<T>(n) + static_cast<T>(eps));
    inv_rms.data<T>()[row] = scale;
    const auto s = hn::Set(d, scale);
    for (i = 0; i + lanes <= n; i += lanes)
      hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, in + i), s), hn::LoadU(d, w + i)), d, out + i);
    for (; i < n; ++i) out[i] = in[i] * scale * w[i];
  });
}

// With r = 1/rms and g = dy · w:  dx = r·g − x · r³/D · Σ g·x   and   dw = Σ_t dy · x · r.
template <class T>
void backward_rows(const Tensor& x, const Tensor& weight, const Tensor& inv_rms, const Tensor& dy, const GradOut& dx,
                   const Tensor& dweight) {
  const hn::ScalableTag<T> d;
  const int64_t n = x.cols(), lanes = static_cast<int64_t>(hn::Lanes(d));
  const T* w = weight.data<T>();
  if (dx.tensor.defined()) {
    parallel_for(x.rows(), 16, [&](int64_t row) {
      const T* in = x.data<T>() + row * x.ld();
      const T* g = dy.data<T>() + row * dy.ld();
      T* out = dx.tensor.data<T>() + row * dx.tensor.ld();
      const T r = inv_rms.data<T>()[row];
      auto dot = hn::Zero(d);
      int64_t i = 0;
      for (; i + lanes <= n; i += lanes)
        dot = hn::MulAdd(hn::Mul(hn::LoadU(d, g + i), hn::LoadU(d, w + i)), hn::LoadU(d, in + i), dot);
      T total = hn::GetLane(hn::SumOfLanes(d, dot));
      for (; i < n; ++i) total += g[i] * w[i] * in[i];
      const T c = total * r * r * r / static_cast<T>(n);
      const auto rv = hn::Set(d, r), cv = hn::Set(d, c);
      for (i = 0; i + lanes <= n; i += lanes) {
        auto v = hn::Mul(hn::Mul(hn::LoadU(d, g + i), hn::LoadU(d, w + i)), rv);
        v = hn::NegMulAdd(hn::LoadU(d, in + i), cv, v);
        hn::StoreU(dx.accumulate ? hn::Add(v, hn::LoadU(d, out + i)) : v, d, out + i);
      }
      for (; i < n; ++i) out[i] = (dx.accumulate ? out[i] : T(0)) + g[i] * w[i] * r - in[i] * c;
    });
  }
  if (dweight.defined()) {
    T* sum = dweight.data<T>();
    parallel_ranges(n, 64, [&](int64_t begin, int64_t end) {
      for (int64_t row = 0; row < x.rows(); ++row) {
        const T* in = x.data<T>() + row * x.ld();
        const T* g = dy.data<T>() + row * dy.ld();
        const T r = inv_rms.data<T>()[row];
        for (int64_t i = begin; i < end; ++i) sum[i] += g[i] * in[i] * r;
      }
    });
  }
}

void forward(const Tensor& x, const Tensor& weight, double eps, const Tensor& y, const Tensor& inv_rms) {
  with_compute_type(x.dtype(), [&](auto t) { forward_rows<decltype(t)>(x, weight, eps, y, inv_rms); });
}
void backward(const Tensor& x, const Tensor& weight, const Tensor& inv_rms, const Tensor& dy, const GradOut& dx,
              const Tensor& dweight) {
  with_compute_type(x.dtype(), [&](auto t) { backward_rows<decltype(t)>(x, weight, inv_rms, dy, dx, dweight); });
}

}  // namespace
}  // namespace molt::ops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace molt::ops {
namespace {
HWY_EXPORT(forward);
HWY_EXPORT(backward);
}  // namespace
MOLT_KERNELS(rms_norm_kernels, Device::kCpu, {MOLT_BEST_TARGET(forward), MOLT_BEST_TARGET(backward)});
}  // namespace molt::ops
#endif

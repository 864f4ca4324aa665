// CPU kernels of gated_add, vectorised over channels.
#include "molt/ops/gated_add.h"

#include <algorithm>

#include "molt/device/cpu/parallel.h"

#include "molt/ops/simd.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "molt/ops/gated_add_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "molt/ops/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace molt::ops::HWY_NAMESPACE {
namespace {

constexpr int64_t kTile = 256;  // channels walked together: their sums stay in the first-level cache

// T: the type that is computed in; S: the one in which y, z and their gradients are kept.
template <class T, class S>
void forward_rows(const Tensor& z, const Tensor& u, const Tensor& y) {
  const hn::ScalableTag<T> d;
  const int64_t n = y.cols(), lanes = static_cast<int64_t>(hn::Lanes(d));
  const T* add = u.data<T>();
  parallel_for(y.rows(), 8, [&](int64_t row) {
    const S* gate = z.data<S>() + row * z.ld();
    S* out = y.data<S>() + row * y.ld();
    for (int64_t i = 0; i < n; i += lanes) {
      const int64_t count = n - i;
      const auto v = load_first(d, gate + i, count);
      const auto silu = hn::Mul(v, sigmoid(d, v));
      store_first(d, hn::MulAdd(silu, load_first(d, add + i, count), load_first(d, out + i, count)), out + i, count);
    }
  });
}

/// Stores v, or adds it to what is there.
template <class D, class S>
HWY_INLINE void put(D d, hn::Vec<D> v, S* out, int64_t count, bool accumulate) {
  store_first(d, accumulate ? hn::Add(v, load_first(d, out, count)) : v, out, count);
}

// A tile of channels is one thread's, over all rows in their order: sums do not depend on the number of threads.
template <class T, class S>
void backward_tiles(const Tensor& dy, const Tensor& z, const Tensor& u, const GradOut& dz, const GradOut& du) {
  const hn::ScalableTag<T> d;
  const int64_t n = dy.cols(), lanes = static_cast<int64_t>(hn::Lanes(d));
  parallel_for((n + kTile - 1) / kTile, 1, [&](int64_t tile) {
    const int64_t begin = tile * kTile, end = std::min(n, begin + kTile);
    T sums[kTile] = {};
    for (int64_t row = 0; row < dy.rows(); ++row) {
      for (int64_t i = begin; i < end; i += lanes) {
        const int64_t count = end - i;
        const auto g = load_first(d, dy.data<S>() + row * dy.ld() + i, count);
        const auto v = load_first(d, z.data<S>() + row * z.ld() + i, count), s = sigmoid(d, v);
        put(d, hn::Mul(g, hn::Mul(v, s)), sums + (i - begin), count, true);
        if (dz.tensor.defined()) {
          const auto slope = hn::Mul(silu_slope(d, v, s), load_first(d, u.data<T>() + i, count));
          put(d, hn::Mul(g, slope), dz.tensor.data<S>() + row * dz.tensor.ld() + i, count, dz.accumulate);
        }
      }
    }
    if (!du.tensor.defined()) return;
    for (int64_t i = begin; i < end; i += lanes)
      put(d, load_first(d, sums + (i - begin), end - i), du.tensor.data<T>() + i, end - i, du.accumulate);
  });
}

void forward(const Tensor& z, const Tensor& u, const Tensor& y) {
  if (y.dtype() == Dtype::kBf16) return forward_rows<float, bf16>(z, u, y);
  with_compute_type(y.dtype(), [&](auto t) { forward_rows<decltype(t), decltype(t)>(z, u, y); });
}
void backward(const Tensor& dy, const Tensor& z, const Tensor& u, const GradOut& dz, const GradOut& du) {
  if (z.dtype() == Dtype::kBf16) return backward_tiles<float, bf16>(dy, z, u, dz, du);
  with_compute_type(dy.dtype(), [&](auto t) { backward_tiles<decltype(t), decltype(t)>(dy, z, u, dz, du); });
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
MOLT_KERNELS(gated_add_kernels, Device::kCpu, {MOLT_BEST_TARGET(forward), MOLT_BEST_TARGET(backward)});
}  // namespace molt::ops
#endif

// CPU kernels of sparse_columns. The matrices are a few dozen wide, so inner loops run along their short, dense side
// and are left to the compiler's vectors, once per instruction set.
#include "molt/ops/sparse_columns.h"

#include <vector>

#include "molt/device/cpu/parallel.h"

#include "molt/ops/simd.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "molt/ops/sparse_columns_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace molt::ops::HWY_NAMESPACE {
namespace {

/// to += factor · from.
template <class T>
HWY_INLINE void add_scaled(T* HWY_RESTRICT to, const T* HWY_RESTRICT from, T factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] += factor * from[i];
}

/// Rows (or anything else) of `cost` multiplications each that are worth a second thread.
int64_t grain(int64_t cost) { return std::max<int64_t>(1, (1 << 16) / std::max<int64_t>(cost, 1)); }

template <class T, class X>
void forward_rows(const Tensor& x, const IndexSet& columns, const Tensor& delta, const Tensor& xs, const Tensor& y) {
  const int64_t count = xs.cols(), width = y.cols();
  std::vector<T> turned(static_cast<size_t>(count * width));  // deltaᵀ (S, O)
  for (int64_t o = 0; o < width; ++o) {
    for (int64_t s = 0; s < count; ++s) turned[s * width + o] = delta.data<T>()[o * delta.ld() + s];
  }
  parallel_for(y.rows(), grain(count * width), [&](int64_t row) {
    const X* in = x.data<X>() + row * x.ld();
    T* chosen = xs.data<T>() + row * xs.ld();
    T* out = y.data<T>() + row * y.ld();
    for (int64_t s = 0; s < count; ++s) {
      chosen[s] = static_cast<T>(in[columns[s]]);
      add_scaled(out, turned.data() + s * width, chosen[s], width);
    }
  });
}

template <class T>
void delta_gradient_rows(const Tensor& dy, const Tensor& xs, const GradOut& ddelta) {
  const int64_t count = xs.cols(), width = dy.cols();
  const Tensor& out = ddelta.tensor;
  parallel_ranges(width, grain(dy.rows() * count), [&](int64_t begin, int64_t end) {
    if (!ddelta.accumulate) {
      for (int64_t o = begin; o < end; ++o) std::fill_n(out.data<T>() + o * out.ld(), count, T(0));
    }
    for (int64_t row = 0; row < dy.rows(); ++row) {
      const T* g = dy.data<T>() + row * dy.ld();
      for (int64_t o = begin; o < end; ++o)
        add_scaled(out.data<T>() + o * out.ld(), xs.data<T>() + row * xs.ld(), g[o], count);
    }
  });
}

template <class T>
void x_gradient_rows(const Tensor& dy, const Tensor& delta, const IndexSet& columns, const GradOut& dx) {
  const int64_t count = static_cast<int64_t>(columns.size()), width = dy.cols();
  const int64_t padded = (count + 15) / 16 * 16;  // whole vectors: their rest would take longer than they do
  std::vector<T> wide(static_cast<size_t>(width * padded));
  for (int64_t o = 0; o < width; ++o) std::copy_n(delta.data<T>() + o * delta.ld(), count, wide.data() + o * padded);
  const Tensor& out = dx.tensor;
  parallel_ranges(dy.rows(), grain(count * width + (dx.accumulate ? 0 : out.cols() / 8)),
                  [&](int64_t begin, int64_t end) {
                    std::vector<T> sum(static_cast<size_t>(padded));
                    for (int64_t row = begin; row < end; ++row) {
                      const T* g = dy.data<T>() + row * dy.ld();
                      T* to = out.data<T>() + row * out.ld();
                      std::fill(sum.begin(), sum.end(), T(0));
                      for (int64_t o = 0; o < width; ++o)
                        add_scaled(sum.data(), wide.data() + o * padded, g[o], padded);
                      if (!dx.accumulate) std::fill_n(to, out.cols(), T(0));
                      for (int64_t s = 0; s < count; ++s) to[columns[s]] += sum[s];
                    }
                  });
}

void forward(const Tensor& x, const IndexSet& columns, const Tensor& delta, const Tensor& xs, const Tensor& y) {
  if (x.dtype() == Dtype::kBf16 && y.dtype() == Dtype::kF32) return forward_rows<float, bf16>(x, columns, delta, xs, y);
  with_compute_type(y.dtype(), [&](auto t) { forward_rows<decltype(t), decltype(t)>(x, columns, delta, xs, y); });
}
void delta_gradient(const Tensor& dy, const Tensor& xs, const GradOut& ddelta) {
  with_compute_type(dy.dtype(), [&](auto t) { delta_gradient_rows<decltype(t)>(dy, xs, ddelta); });
}
void x_gradient(const Tensor& dy, const Tensor& delta, const IndexSet& columns, const GradOut& dx) {
  with_compute_type(dy.dtype(), [&](auto t) { x_gradient_rows<decltype(t)>(dy, delta, columns, dx); });
}

}  // namespace
}  // namespace molt::ops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace molt::ops {
namespace {
HWY_EXPORT(forward);
HWY_EXPORT(delta_gradient);
HWY_EXPORT(x_gradient);
}  // namespace
MOLT_KERNELS(sparse_columns_kernels, Device::kCpu,
             {MOLT_BEST_TARGET(forward), MOLT_BEST_TARGET(delta_gradient), MOLT_BEST_TARGET(x_gradient)});
}  // namespace molt::ops
#endif

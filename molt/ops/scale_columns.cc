#include "molt/ops/scale_columns.h"

#include "molt/device/cpu/parallel.h"
#include "molt/ops/products.h"

namespace molt::ops {
namespace {

/// k (W): the factors in effect.
Tensor effective(const Tensor& factor, const Tensor& divisor) {
  if (!divisor.defined()) return factor;
  Tensor k = factor.clone();
  with_compute_type(k.dtype(), [&](auto tag) {
    using T = decltype(tag);
    for (int64_t i = 0; i < k.numel(); ++i) k.data<T>()[i] /= divisor.data<T>()[i];
  });
  return k;
}

}  // namespace

Tensor ScaleColumns::forward(const Needs& needs, const Tensor& y_in, const Tensor& factor_in, const Tensor& shift_in) {
  const int64_t W = factor_in.numel();
  MOLT_CHECK(y_in.rank() == 2 && begin >= 0 && begin + W <= y_in.cols() && factor_in.dtype() == y_in.dtype(),
             "scale_columns: y ", shape_str(y_in.shape()), ", ", W, " factors from column ", begin);
  MOLT_CHECK(!shift_in.defined() || shift_in.numel() == W, "scale_columns: shift ", shape_str(shift_in.shape()));
  Tensor out = needs.wants(1) ? y_in.clone() : y_in;
  const Tensor k = effective(factor_in, divisor);
  with_compute_type(out.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const T* kv = k.data<T>();
    const T* sv = shift_in.defined() ? shift_in.data<T>() : nullptr;
    parallel_for(out.rows(), 16, [&](int64_t t) {
      T* row = out.data<T>() + t * out.ld() + begin;
      if (sv) {
        for (int64_t i = 0; i < W; ++i) row[i] = row[i] * kv[i] + sv[i] * (1 - kv[i]);
      } else {
        for (int64_t i = 0; i < W; ++i) row[i] *= kv[i];
      }
    });
  });
  if (needs.any()) {
    factor = factor_in;
    if (needs.wants(1)) y = y_in, shift = shift_in;
  }
  return out;
}

void ScaleColumns::backward(const Tensor& dy, Grads& d) const {
  const int64_t W = factor.numel();
  const Tensor k = effective(factor, divisor), part = dy.col_range(begin, W);
  with_compute_type(dy.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const T* kv = k.data<T>();
    if (d.wants(1)) {
      const GradOut out = d.out(1);
      T* to = out.tensor.data<T>();
      const T* sv = shift.defined() ? shift.data<T>() : nullptr;
      const T* dv = divisor.defined() ? divisor.data<T>() : nullptr;
      parallel_ranges(W, 256, [&](int64_t first, int64_t last) {
        std::vector<T> sum(static_cast<size_t>(last - first), T(0));
        for (int64_t t = 0; t < dy.rows(); ++t) {
          const T* g = part.data<T>() + t * part.ld();
          const T* v = y.data<T>() + t * y.ld() + begin;
          for (int64_t i = first; i < last; ++i)
            sum[static_cast<size_t>(i - first)] += g[i] * (v[i] - (sv ? sv[i] : T(0)));
        }
        for (int64_t i = first; i < last; ++i) {
          const T value = sum[static_cast<size_t>(i - first)] / (dv ? dv[i] : T(1));
          to[i] = out.accumulate ? to[i] + value : value;
        }
      });
    }
    if (d.wants(2)) {
      Tensor sums = dy.like({W});
      sum_rows(part, {sums, false});
      for (int64_t i = 0; i < W; ++i) sums.data<T>()[i] *= 1 - kv[i];
      d.give(2, sums);
    }
    if (d.wants(0)) {
      Tensor dx = dy.clone();
      parallel_for(dx.rows(), 16, [&](int64_t t) {
        T* row = dx.data<T>() + t * dx.ld() + begin;
        for (int64_t i = 0; i < W; ++i) row[i] *= kv[i];
      });
      d.give(0, dx);
    }
  });
}

Var scaled(const Var& x, const Var& factor) {
  if (factor.needs_grad() && grad_enabled()) return scale_columns(x, factor);
  return scale_columns(x.needs_grad() ? Var(x.value().clone(), x.node()) : Var(x.value().clone()), factor);
}

}  // namespace molt::ops

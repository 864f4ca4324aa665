#include "molt/ops/vector_low_rank.h"

#include "molt/ops/products.h"

namespace molt::ops {
namespace {

/// m ∘ v over columns, or rows; new memory.
Tensor scaled_copy(const Tensor& m, const Tensor& v, bool rows) {
  Tensor out = m.clone();
  with_compute_type(m.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const T* f = v.data<T>();
    for (int64_t r = 0; r < out.rows(); ++r) {
      T* row = out.data<T>() + r * out.ld();
      for (int64_t c = 0; c < out.cols(); ++c) row[c] *= rows ? f[r] : f[c];
    }
  });
  return out;
}

/// out[i] (or +=) scale · Σ a ∘ b over rows (per column) or over columns (per row).
void dots(const Tensor& a, const Tensor& b, bool per_row, double scale, const GradOut& out) {
  with_compute_type(a.dtype(), [&](auto tag) {
    using T = decltype(tag);
    std::vector<T> sum(static_cast<size_t>(out.tensor.numel()), T(0));
    for (int64_t r = 0; r < a.rows(); ++r) {
      const T* x = a.data<T>() + r * a.ld();
      const T* y = b.data<T>() + r * b.ld();
      for (int64_t c = 0; c < a.cols(); ++c) sum[static_cast<size_t>(per_row ? r : c)] += x[c] * y[c];
    }
    T* to = out.tensor.data<T>();
    for (size_t i = 0; i < sum.size(); ++i) {
      const T value = static_cast<T>(scale) * sum[i];
      to[i] = out.accumulate ? to[i] + value : value;
    }
  });
}

}  // namespace

Tensor VectorLowRank::forward(const Needs& needs, const Tensor& y, const Tensor& x_in, const Tensor& A_in,
                              const Tensor& d_in, const Tensor& B_in, const Tensor& b_in) {
  MOLT_CHECK(A_in.cols() == x_in.cols() && A_in.rows() == B_in.cols() && d_in.numel() == A_in.rows() &&
                 (!b_in.defined() || b_in.numel() == B_in.rows()),
             "vector_low_rank: A ", shape_str(A_in.shape()), ", d ", shape_str(d_in.shape()), ", B ",
             shape_str(B_in.shape()), ", x ", shape_str(x_in.shape()));
  const Tensor down = x_in.like({x_in.rows(), A_in.rows()});
  multiply(false, true, 1, x_in, A_in, {down, false});
  const Tensor up = b_in.defined() ? scaled_copy(B_in, b_in, true) : B_in;
  multiply(false, true, scale, scaled_copy(down, d_in, false), up, {y.col_range(begin, B_in.rows()), true});
  if (needs.any()) {
    A = A_in, diagonal = d_in, B = B_in, b = b_in, u = down;
    if (needs.wants(2)) x = x_in;
  }
  return y;
}

void VectorLowRank::backward(const Tensor& dy, Grads& d) const {
  const Tensor part = dy.col_range(begin, B.rows());
  if (d.wants(4) || d.wants(5)) {
    const Tensor M = dy.like(B.shape());  // dyᵀ (d ∘ u): dB without b, and b's gradient is its rows' products with B
    multiply(true, false, scale, part, scaled_copy(u, diagonal, false), {M, false});
    if (d.wants(5)) dots(M, B, true, 1, d.out(5));
    if (d.wants(4)) d.give(4, b.defined() ? scaled_copy(M, b, true) : M);
  }
  if (d.wants(1) || d.wants(2) || d.wants(3)) {
    const Tensor dv = dy.like({dy.rows(), B.cols()});
    multiply(false, false, scale, part, b.defined() ? scaled_copy(B, b, true) : B, {dv, false});
    if (d.wants(3)) dots(dv, u, false, 1, d.out(3));
    if (d.wants(1) || d.wants(2)) {
      const Tensor du = scaled_copy(dv, diagonal, false);
      if (d.wants(2)) multiply(true, false, 1, du, x, d.out(2));
      if (d.wants(1)) multiply(false, false, 1, du, A, d.out(1));
    }
  }
  d.give(0, dy);
}

}  // namespace molt::ops

#include "molt/ops/low_rank.h"

#include "molt/ops/products.h"

namespace molt::ops {

Tensor LowRank::forward(const Needs& needs, const Tensor& y, const Tensor& x_in, const Tensor& A_in,
                        const Tensor& B_in) {
  MOLT_CHECK(A_in.cols() == x_in.cols() && A_in.rows() == B_in.cols(), "low_rank: A is ", shape_str(A_in.shape()),
             ", B ", shape_str(B_in.shape()), ", x ", shape_str(x_in.shape()));
  const bool saves = needs.wants(1) || needs.wants(2) || needs.wants(3);
  if (done && !saves) return y;
  const Tensor down = x_in.like({x_in.rows(), A_in.rows()});
  multiply(false, true, 1, x_in, A_in, {down, false});
  if (!done) multiply(false, true, scale, down, B_in, {y.col_range(begin, B_in.rows()), true});
  if (saves) {
    A = A_in, B = B_in, u = down;
    if (needs.wants(2)) x = x_in;
  }
  return y;
}

void LowRank::backward(const Tensor& dy, Grads& d) const {
  const Tensor dy_part = dy.col_range(begin, B.rows());
  if (d.wants(3)) multiply(true, false, scale, dy_part, u, d.out(3));
  if (d.wants(1) || d.wants(2)) {
    const Tensor du = dy.like({dy.rows(), B.cols()});
    multiply(false, false, scale, dy_part, B, {du, false});
    if (d.wants(2)) multiply(true, false, 1, du, x, d.out(2));
    if (d.wants(1)) multiply(false, false, 1, du, A, d.out(1));
  }
  d.give(0, dy);
}

}  // namespace molt::ops

#include "molt/ops/folded_add.h"

#include "molt/device/cpu/parallel.h"
#include "molt/ops/products.h"

namespace molt::ops {

Tensor FoldedAdd::forward(const Needs& needs, const Tensor& y, const Tensor& x, const Tensor& D_in) {
  const int64_t R = D_in.rows(), I = x.cols();
  MOLT_CHECK(x.rows() == y.rows() && x.dtype() == D_in.dtype(), "folded_add: y ", shape_str(y.shape()), ", x ",
             shape_str(x.shape()), ", D ", shape_str(D_in.shape()));
  const Tensor folded = x.like({x.rows(), R});
  with_compute_type(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    parallel_for(x.rows(), 16, [&](int64_t t) {
      const T* from = x.data<T>() + t * x.ld();
      T* to = folded.data<T>() + t * R;
      std::fill(to, to + R, T(0));
      for (int64_t g = 0; g < I; g += R) {
        for (int64_t j = 0; j < std::min(R, I - g); ++j) to[j] += from[g + j];
      }
    });
  });
  multiply(false, false, 1, folded, D_in, {y.col_range(begin, D_in.cols()), true});
  if (needs.any()) {
    D = D_in, inputs = I;
    if (needs.wants(2)) u = folded;
  }
  return y;
}

void FoldedAdd::backward(const Tensor& dy, Grads& d) const {
  const int64_t R = D.rows();
  const Tensor part = dy.col_range(begin, D.cols());
  if (d.wants(2)) multiply(true, false, 1, u, part, d.out(2));
  if (d.wants(1)) {
    const Tensor du = dy.like({dy.rows(), R});
    multiply(false, true, 1, part, D, {du, false});
    const GradOut dx = d.out(1);
    with_compute_type(dy.dtype(), [&](auto tag) {
      using T = decltype(tag);
      parallel_for(dy.rows(), 16, [&](int64_t t) {
        const T* from = du.data<T>() + t * R;
        T* to = dx.tensor.data<T>() + t * dx.tensor.ld();
        if (!dx.accumulate) std::fill(to, to + inputs, T(0));
        for (int64_t g = 0; g < inputs; g += R) {
          for (int64_t j = 0; j < std::min(R, inputs - g); ++j) to[g + j] += from[j];
        }
      });
    });
  }
  d.give(0, dy);
}

}  // namespace molt::ops

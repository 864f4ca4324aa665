#include "molt/ops/linear.h"

#include <utility>

#include "molt/ops/products.h"
#include "molt/tensor/matrix_view.h"

namespace molt::ops {

Tensor Linear::forward(const Needs& needs, const Tensor& x_in, const Tensor&, const Tensor& bias) {
  MOLT_CHECK(packed && packed->defined(), "linear: the weight was not loaded");
  MOLT_CHECK(x_in.cols() == packed->inputs(), "linear: x has ", x_in.cols(), " channels, the weight takes ",
             packed->inputs());
  if (needs.wants(1)) x = x_in;
  if (known.defined()) return std::exchange(known, {});
  Tensor y = x_in.like({x_in.rows(), packed->outputs()}, packed->compute() == Dtype::kF64 ? Dtype::kF64 : out);
  packed->forward(matrix_view(x_in), matrix_view(y), bias.defined() ? bias.raw() : nullptr);
  return y;
}

void Linear::backward(const Tensor& dy, Grads& d) const {
  if (d.wants(0)) {
    const GradOut dx = d.out(0);
    packed->backward(matrix_view(dy), matrix_view(dx.tensor), dx.accumulate);
  }
  if (d.wants(1)) multiply(true, false, 1, dy, x, d.out(1));
  if (d.wants(2)) sum_rows(dy, d.out(2));
}

}  // namespace molt::ops

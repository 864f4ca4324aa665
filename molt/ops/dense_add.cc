#include "molt/ops/dense_add.h"

#include "molt/ops/products.h"

namespace molt::ops {

Tensor DenseAdd::forward(const Needs& needs, const Tensor& y, const Tensor& x_in, const Tensor& delta_in) {
  multiply(false, true, 1, x_in, delta_in, {y, true});
  if (needs.wants(1)) delta = delta_in;
  if (needs.wants(2)) x = x_in;
  return y;
}

void DenseAdd::backward(const Tensor& dy, Grads& d) const {
  if (d.wants(2)) multiply(true, false, 1, dy, x, d.out(2));
  if (d.wants(1)) multiply(false, false, 1, dy, delta, d.out(1));
  d.give(0, dy);
}

}  // namespace molt::ops

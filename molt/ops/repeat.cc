#include "molt/ops/repeat.h"

#include "molt/base/error.h"

namespace molt::ops {

Tensor Repeat::forward(const Needs&, const Tensor& x) {
  MOLT_CHECK(!leading || (x.rank() >= 2 && x.dim(0) == 1), "repeat: x is ", shape_str(x.shape()), ", not (1, …)");
  MOLT_CHECK(x.contiguous(), "repeat: x must be dense");
  Shape shape = x.shape();
  if (leading) shape.erase(shape.begin());
  shape.insert(shape.begin(), count);
  const Tensor y = x.like(shape), flat = y.reshape({count, x.numel()}), row = x.reshape({1, x.numel()});
  for (int64_t s = 0; s < count; ++s) {
    Tensor to = flat.row_range(s, 1);
    to.copy_from(row);
  }
  return y;
}

void Repeat::backward(const Tensor& dy, Grads& d) const {
  if (count == 0) return;
  const GradOut out = d.out(0);
  const Tensor from = (dy.contiguous() ? dy : dy.clone()).reshape({count, out.tensor.numel()});
  Tensor sum = out.tensor.reshape({1, out.tensor.numel()});
  for (int64_t s = 0; s < count; ++s) {
    const Tensor part = from.row_range(s, 1);
    if (s > 0 || out.accumulate) {
      sum.add(part);
    } else {
      sum.copy_from(part);
    }
  }
}

}  // namespace molt::ops

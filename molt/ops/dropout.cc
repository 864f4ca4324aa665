#include "molt/ops/dropout.h"

namespace molt::ops {

Tensor Dropout::forward(const Needs&, const Tensor& x) {
  MOLT_CHECK(mask.p >= 0 && mask.p < 1, "dropout: p = ", mask.p, ", must be in [0, 1)");
  Tensor y = x.like(x.shape());
  dropout_kernels.at(x.device()).apply(x, mask, {y, false});
  return y;
}

void Dropout::backward(const Tensor& dy, Grads& d) const { dropout_kernels.at(dy.device()).apply(dy, mask, d.out(0)); }

}  // namespace molt::ops

#include "molt/ops/tanh.h"

namespace molt::ops {
namespace {

Tensor dense(const Tensor& t) { return t.contiguous() ? t : t.clone(); }

}  // namespace

Tensor Tanh::forward(const Needs& needs, const Tensor& x) {
  const Tensor out = x.like(x.shape());
  tanh_kernels.at(x.device()).forward(dense(x), out);
  if (needs.any()) y = out;
  return out;
}

void Tanh::backward(const Tensor& dy, Grads& d) const {
  const Tensor dx = dy.like(dy.shape());  // the gradient of x may be a view
  tanh_kernels.at(dy.device()).backward(dense(dy), y, {dx, false});
  d.give(0, dx);
}

}  // namespace molt::ops

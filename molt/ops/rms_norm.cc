#include "molt/ops/rms_norm.h"

namespace molt::ops {

Tensor RmsNorm::forward(const Needs& needs, const Tensor& x_in, const Tensor& weight_in) {
  MOLT_CHECK(weight_in.dim(0) == x_in.dim(-1), "rms_norm: weight has ", weight_in.dim(0), " entries, x has ",
             x_in.dim(-1), " channels");
  Tensor y = x_in.like(x_in.shape()), scale = x_in.like({x_in.rows()});
  rms_norm_kernels.at(x_in.device()).forward(x_in, weight_in, eps, y, scale);
  if (needs.any()) x = x_in, weight = weight_in, inv_rms = scale;
  return y;
}

void RmsNorm::backward(const Tensor& dy, Grads& d) const {
  const GradOut dx = d.wants(0) ? d.out(0) : GradOut{};
  Tensor dweight;
  if (d.wants(1)) dweight = Tensor::zeros(weight.shape(), weight.dtype(), weight.device());
  rms_norm_kernels.at(x.device()).backward(x, weight, inv_rms, dy, dx, dweight);
  if (d.wants(1)) d.give(1, dweight);
}

}  // namespace molt::ops

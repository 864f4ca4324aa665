#include "molt/ops/gated_add.h"

namespace molt::ops {

Tensor GatedAdd::forward(const Needs& needs, const Tensor& y, const Tensor& z_in, const Tensor& u_in) {
  MOLT_CHECK(y.rank() == 2 && z_in.shape() == y.shape(), "gated_add: y ", shape_str(y.shape()), ", z ",
             shape_str(z_in.shape()));
  MOLT_CHECK(u_in.shape() == Shape{y.dim(1)}, "gated_add: u ", shape_str(u_in.shape()), ", y ", shape_str(y.shape()));
  const Dtype compute = y.dtype() == Dtype::kBf16 ? Dtype::kF32 : y.dtype();
  MOLT_CHECK(z_in.dtype() == y.dtype() && u_in.dtype() == compute, "gated_add: y is ", dtype_name(y.dtype()), ", z ",
             dtype_name(z_in.dtype()), ", u ", dtype_name(u_in.dtype()));
  gated_add_kernels.at(y.device()).forward(z_in, u_in, y);
  if (needs.wants(1) || needs.wants(2)) {
    z = z_in;
    if (needs.wants(1)) u = u_in;
  }
  return y;
}

void GatedAdd::backward(const Tensor& dy, Grads& d) const {
  GradOut dz, du;
  if (d.wants(1)) dz = d.out(1);
  if (d.wants(2)) du = d.out(2);
  if (d.wants(1) || d.wants(2)) gated_add_kernels.at(dy.device()).backward(dy, z, u, dz, du);
  d.give(0, dy);
}

}  // namespace molt::ops

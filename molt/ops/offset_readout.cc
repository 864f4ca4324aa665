#include "molt/ops/offset_readout.h"

namespace molt::ops {

Tensor OffsetReadout::forward(const Needs& needs, const Tensor& y, const Tensor& z, const Tensor& C,
                              const Tensor& offset) {
  MOLT_CHECK(y.rank() == 2 && z.shape() == y.shape() && C.rank() == 2 && C.dim(0) == y.dim(0) &&
                 offset.shape() == Shape({y.dim(1), C.dim(1)}),
             "offset_readout: y ", shape_str(y.shape()), ", z ", shape_str(z.shape()), ", C ", shape_str(C.shape()),
             ", offset ", shape_str(offset.shape()));
  const Dtype compute = y.dtype() == Dtype::kBf16 ? Dtype::kF32 : y.dtype();
  MOLT_CHECK(z.dtype() == y.dtype() && C.dtype() == compute && offset.dtype() == compute, "offset_readout: y is ",
             dtype_name(y.dtype()), ", z ", dtype_name(z.dtype()), ", C ", dtype_name(C.dtype()), ", offset ",
             dtype_name(offset.dtype()));
  OffsetReadoutInputs all{z, C, offset.contiguous() ? offset : offset.clone()};
  offset_readout_kernels.at(y.device()).forward(all, y);
  if (needs.wants(1) || needs.wants(2) || needs.wants(3)) in = std::move(all);
  return y;
}

void OffsetReadout::backward(const Tensor& dy, Grads& d) const {
  OffsetReadoutGrads grads{dy, {}, {}, {}};
  GradOut* const outs[] = {&grads.dz, &grads.dC, &grads.doffset};
  bool any = false;
  for (int i = 0; i < 3; ++i) {
    if (!d.wants(i + 1)) continue;
    MOLT_CHECK(!d.rows(i + 1), "offset_readout: gradients of some rows only");
    *outs[i] = d.out(i + 1);
    any = true;
  }
  if (any) offset_readout_kernels.at(dy.device()).backward(in, grads);
  d.give(0, dy);
}

}  // namespace molt::ops

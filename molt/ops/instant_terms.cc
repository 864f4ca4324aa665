#include "molt/ops/instant_terms.h"

namespace molt::ops {

Tensor InstantTerms::forward(const Needs& needs, const Tensor& y, const Tensor& x, const Tensor& dt, const Tensor& B,
                             const Tensor& C, const Tensor& z) {
  const Shape& shape = entries->shape;
  MOLT_CHECK(y.rank() == 2 && shape.size() == 2 && shape[0] == y.dim(1), "instant_terms: y ", shape_str(y.shape()),
             ", entries of ", shape_str(shape));
  MOLT_CHECK(x.shape() == y.shape() && dt.shape() == y.shape() && z.shape() == y.shape(), "instant_terms: y ",
             shape_str(y.shape()), ", x ", shape_str(x.shape()), ", dt ", shape_str(dt.shape()), ", z ",
             shape_str(z.shape()));
  MOLT_CHECK(B.dim(0) == y.dim(0) && B.shape() == C.shape() && B.dim(1) >= shape[1], "instant_terms: B ",
             shape_str(B.shape()), ", C ", shape_str(C.shape()), ", entries of ", shape_str(shape));
  InstantInputs all{x, dt, B, C, z};
  instant_terms_kernels.at(y.device()).forward(all, *entries, y);
  if (needs.any()) in = std::move(all);
  return y;
}

void InstantTerms::backward(const Tensor& dy, Grads& d) const {
  InstantGrads grads;
  Tensor* const to[] = {&grads.dx, &grads.ddt, &grads.dB, &grads.dC, &grads.dz};
  bool any = false;
  for (int i = 0; i < 5; ++i) {
    if (!d.wants(i + 1)) continue;
    GradOut out = d.out(i + 1);
    if (!out.accumulate) out.tensor.fill(0);
    *to[i] = out.tensor;
    any = true;
  }
  if (any) instant_terms_kernels.at(dy.device()).backward(dy, in, *entries, grads);
  d.give(0, dy);
}

}  // namespace molt::ops

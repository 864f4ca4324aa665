#include "molt/ops/linear_low_rank.h"

#include <utility>

#include "molt/ops/products.h"
#include "molt/tensor/matrix_view.h"

namespace molt::ops {
namespace {

LowRankFactors factors(const Tensor& A, const Tensor& B, double scale, int64_t begin) {
  return {matrix_view(A), matrix_view(B), scale, begin};
}

}  // namespace

bool can_fuse_low_rank(const PackedMatrix& packed, const Tensor& A, const Tensor& B) {
  return A.dtype() == Dtype::kF32 && B.dtype() == Dtype::kF32 && packed.defined() &&
         LowRankProduct::available(packed, A.rows());
}

Tensor LinearLowRank::forward(const Needs& needs, const Tensor& x, const Tensor& bias, const Tensor& A_in,
                              const Tensor& B_in) {
  MOLT_CHECK(packed && packed->defined(), "linear: the weight was not loaded");
  MOLT_CHECK(x.cols() == packed->inputs(), "linear: x has ", x.cols(), " channels, the weight takes ",
             packed->inputs());
  MOLT_CHECK(A_in.cols() == x.cols() && A_in.rows() == B_in.cols() && begin + B_in.rows() <= packed->outputs(),
             "low_rank: A is ", shape_str(A_in.shape()), ", B ", shape_str(B_in.shape()), ", x ", shape_str(x.shape()));
  if (needs.any()) A = A_in, B = B_in;
  if (known.defined()) {
    if (needs.any()) product.remember(matrix_view(x), factors(A_in, B_in, scale, begin));
    return std::exchange(known, {});
  }
  Tensor y = x.like({x.rows(), packed->outputs()}, out);
  product.forward(*packed, matrix_view(x), bias.defined() ? bias.data<float>() : nullptr,
                  factors(A_in, B_in, scale, begin), matrix_view(y), needs.any());
  return y;
}

void LinearLowRank::backward(const Tensor& dy, Grads& d) const {
  const auto target = [&](int i) {
    if (!d.wants(i)) return LowRankProduct::Target{};
    const GradOut out = d.out(i);
    return LowRankProduct::Target{matrix_view(out.tensor), out.accumulate};
  };
  product.backward(*packed, matrix_view(dy), factors(A, B, scale, begin), target(0), target(2), target(3));
  if (d.wants(1)) sum_rows(dy, d.out(1));
}

}  // namespace molt::ops

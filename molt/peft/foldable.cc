#include "molt/peft/foldable.h"

#include "molt/base/error.h"
#include "molt/ops/products.h"

namespace molt::peft {

void merge_terms(const std::vector<nn::LowRankTerm>& terms, const Tensor& weight) {
  for (const nn::LowRankTerm& t : terms) {
    const Tensor A = t.A.value().to(weight.dtype()), B = t.B.value().to(weight.dtype());
    ops::multiply(false, false, t.scale, B, A, {weight.row_range(t.begin, B.rows()), true});
  }
}

Tensor scaled_rows(const Tensor& matrix, const std::vector<double>& factors) {
  MOLT_CHECK(matrix.rows() == static_cast<int64_t>(factors.size()), "a factor for each of ", matrix.rows(), " rows");
  const Tensor scaled = matrix.clone();
  for (size_t r = 0; r < factors.size(); ++r) scaled.row_range(static_cast<int64_t>(r), 1).scale(factors[r]);
  return scaled;
}

}  // namespace molt::peft

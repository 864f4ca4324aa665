#include "molt/ops/skew_entries.h"

#include <vector>

#include "molt/base/error.h"

namespace molt::ops {

Tensor SkewEntries::forward(const Needs&, const Tensor& M) {
  MOLT_CHECK(M.rank() == 3 && M.dim(1) == M.dim(2), "skew_entries: ", shape_str(M.shape()));
  size = M.dim(2);
  const std::vector<double> m = M.values();
  std::vector<double> v;
  for (int64_t b = 0; b < M.dim(0); ++b) {
    const double* block = m.data() + b * size * size;
    for (int64_t i = 0; i < size; ++i) {
      for (int64_t j = i + 1; j < size; ++j) v.push_back((block[i * size + j] - block[j * size + i]) / 2);
    }
  }
  return Tensor::from(v, {M.dim(0), size * (size - 1) / 2}).to(M.dtype());
}

void SkewEntries::backward(const Tensor& dv, Grads& d) const {
  const std::vector<double> g = dv.values();
  std::vector<double> dM(static_cast<size_t>(dv.rows() * size * size), 0);
  const double* from = g.data();
  for (int64_t b = 0; b < dv.rows(); ++b) {
    double* block = dM.data() + b * size * size;
    for (int64_t i = 0; i < size; ++i) {
      for (int64_t j = i + 1; j < size; ++j, ++from) {
        block[i * size + j] = *from / 2;
        block[j * size + i] = -*from / 2;
      }
    }
  }
  d.give(0, Tensor::from(dM, {dv.rows(), size, size}).to(dv.dtype()));
}

}  // namespace molt::ops

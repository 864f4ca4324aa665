#include "molt/ops/products.h"

#include "molt/device/cpu/parallel.h"
#include "molt/device/gemm.h"
#include "molt/tensor/matrix_view.h"

namespace molt::ops {

void multiply(bool trans_a, bool trans_b, double alpha, const Tensor& a, const Tensor& b, const GradOut& out) {
  gemm({.a = matrix_view(a),
        .b = matrix_view(b),
        .c = matrix_view(out.tensor),
        .trans_a = trans_a,
        .trans_b = trans_b,
        .alpha = alpha,
        .beta = out.accumulate ? 1.0 : 0.0});
}

void sum_rows(const Tensor& a, const GradOut& out) {
  with_compute_type(a.dtype(), [&](auto tag) {
    using T = decltype(tag);
    T* sum = out.tensor.data<T>();
    parallel_ranges(a.cols(), 256, [&](int64_t begin, int64_t end) {
      if (!out.accumulate) std::fill(sum + begin, sum + end, T(0));
      for (int64_t t = 0; t < a.rows(); ++t) {
        const T* row = a.data<T>() + t * a.ld();
        for (int64_t i = begin; i < end; ++i) sum[i] += row[i];
      }
    });
  });
}

}  // namespace molt::ops

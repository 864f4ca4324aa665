#include "molt/ops/kron_add.h"

#include "molt/device/cpu/parallel.h"
#include "molt/ops/products.h"

namespace molt::ops {

Tensor KronAdd::forward(const Needs& needs, const Tensor& y, const Tensor& x_in, const Tensor& W1_in,
                        const Tensor& W2_in) {
  const int64_t L = W1_in.rows(), M = W1_in.cols(), K = W2_in.rows(), N = W2_in.cols(), rows = x_in.rows();
  MOLT_CHECK(x_in.cols() == M * N && begin + L * K <= y.cols(), "kron_add: W1 ", shape_str(W1_in.shape()), ", W2 ",
             shape_str(W2_in.shape()), ", x ", shape_str(x_in.shape()), ", y ", shape_str(y.shape()));
  const Tensor flat = (x_in.contiguous() ? x_in : x_in.clone()).reshape({rows * M, N});
  const Tensor mid = x_in.like({rows * M, K});
  multiply(false, true, 1, flat, W2_in, {mid, false});
  with_compute_type(y.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const T* w = W1_in.data<T>();
    parallel_for(rows, 8, [&](int64_t t) {
      for (int64_t l = 0; l < L; ++l) {
        T* to = y.data<T>() + t * y.ld() + begin + l * K;
        for (int64_t m = 0; m < M; ++m) {
          const T f = static_cast<T>(scale) * w[l * M + m];
          const T* from = mid.data<T>() + (t * M + m) * K;
          for (int64_t k = 0; k < K; ++k) to[k] += f * from[k];
        }
      }
    });
  });
  if (needs.any()) {
    W1 = W1_in, W2 = W2_in;
    if (needs.wants(3)) x = flat;
    if (needs.wants(2)) z = mid;
  }
  return y;
}

void KronAdd::backward(const Tensor& dy, Grads& d) const {
  const int64_t L = W1.rows(), M = W1.cols(), K = W2.rows(), N = W2.cols(), rows = dy.rows();
  with_compute_type(dy.dtype(), [&](auto tag) {
    using T = decltype(tag);
    if (d.wants(2)) {
      const GradOut out = d.out(2);
      parallel_for(L * M, 1, [&](int64_t lm) {
        const int64_t l = lm / M, m = lm % M;
        T sum = 0;
        for (int64_t t = 0; t < rows; ++t) {
          const T* g = dy.data<T>() + t * dy.ld() + begin + l * K;
          const T* v = z.data<T>() + (t * M + m) * K;
          for (int64_t k = 0; k < K; ++k) sum += g[k] * v[k];
        }
        T& to = out.tensor.data<T>()[lm];
        to = static_cast<T>(scale) * sum + (out.accumulate ? to : T(0));
      });
    }
    if (d.wants(1) || d.wants(3)) {
      const Tensor dz = dy.like({rows * M, K});
      parallel_for(rows, 8, [&](int64_t t) {
        for (int64_t m = 0; m < M; ++m) {
          T* to = dz.data<T>() + (t * M + m) * K;
          std::fill(to, to + K, T(0));
          for (int64_t l = 0; l < L; ++l) {
            const T f = static_cast<T>(scale) * W1.data<T>()[l * M + m];
            const T* g = dy.data<T>() + t * dy.ld() + begin + l * K;
            for (int64_t k = 0; k < K; ++k) to[k] += f * g[k];
          }
        }
      });
      if (d.wants(3)) multiply(true, false, 1, dz, x, d.out(3));
      if (d.wants(1)) {
        const Tensor dx = dy.like({rows * M, N});
        multiply(false, false, 1, dz, W2, {dx, false});
        d.give(1, dx.reshape({rows, M * N}));
      }
    }
  });
  d.give(0, dy);
}

}  // namespace molt::ops

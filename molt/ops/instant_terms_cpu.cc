// CPU kernels of instant_terms: a few channels of each token, so no vectors.
#include <cmath>

#include "molt/device/cpu/parallel.h"
#include "molt/ops/instant_terms.h"

namespace molt::ops {
namespace {

template <class T>
T* row_of(const Tensor& t, int64_t row) {
  return t.defined() ? t.data<T>() + row * t.ld() : nullptr;
}

/// A token's numbers.
template <class T>
struct Token {
  const T *x, *dt, *B, *C, *z;
  Token(const InstantInputs& in, int64_t row)
      : x(row_of<T>(in.x, row)),
        dt(row_of<T>(in.dt, row)),
        B(row_of<T>(in.B, row)),
        C(row_of<T>(in.C, row)),
        z(row_of<T>(in.z, row)) {}
};

template <class T>
T sigmoid(T v) {
  return 1 / (1 + std::exp(-v));
}

template <class T>
T softplus(T v) {
  return v > 20 ? v : std::log1p(std::exp(v));
}

/// Calls f(e, first, last) for every run of entries of one channel; entries
/// ascend.
template <class F>
void each_channel(const EntrySet& entries, const F& f) {
  const int64_t N = entries.shape[1];
  for (size_t first = 0; first < entries.flat.size();) {
    const int64_t e = entries.flat[first] / N;
    size_t last = first;
    while (last < entries.flat.size() && entries.flat[last] / N == e) ++last;
    f(e, first, last);
    first = last;
  }
}

int64_t grain(const EntrySet& entries) {
  return std::max<int64_t>(1, (1 << 12) / static_cast<int64_t>(entries.flat.size() + 1));
}

void forward(const InstantInputs& in, const EntrySet& entries, const Tensor& y) {
  const int64_t N = entries.shape[1];
  with_compute_type(y.dtype(), [&](auto tag) {
    using T = decltype(tag);
    parallel_for(y.rows(), grain(entries), [&](int64_t row) {
      const Token<T> t(in, row);
      T* out = row_of<T>(y, row);
      each_channel(entries, [&](int64_t e, size_t first, size_t last) {
        T sum = 0;
        for (size_t i = first; i < last; ++i) sum += t.B[entries.flat[i] % N] * t.C[entries.flat[i] % N];
        out[e] -= t.z[e] * sigmoid(t.z[e]) * softplus(t.dt[e]) * t.x[e] * sum;
      });
    });
  });
}

void backward(const Tensor& dy, const InstantInputs& in, const EntrySet& entries, const InstantGrads& grads) {
  const int64_t N = entries.shape[1];
  with_compute_type(dy.dtype(), [&](auto tag) {
    using T = decltype(tag);
    parallel_for(dy.rows(), grain(entries), [&](int64_t row) {
      const Token<T> t(in, row);
      const T* g = row_of<T>(dy, row);
      T *dx = row_of<T>(grads.dx, row), *ddt = row_of<T>(grads.ddt, row), *dz = row_of<T>(grads.dz, row);
      T *dB = row_of<T>(grads.dB, row), *dC = row_of<T>(grads.dC, row);
      each_channel(entries, [&](int64_t e, size_t first, size_t last) {
        const T s = sigmoid(t.z[e]), gate = t.z[e] * s, step = softplus(t.dt[e]);
        T sum = 0;
        for (size_t i = first; i < last; ++i) {
          const int64_t n = entries.flat[i] % N;
          sum += t.B[n] * t.C[n];
          const T each = -g[e] * gate * step * t.x[e];
          if (dB) dB[n] += each * t.C[n];
          if (dC) dC[n] += each * t.B[n];
        }
        if (dx) dx[e] -= g[e] * gate * step * sum;
        if (ddt) ddt[e] -= g[e] * gate * t.x[e] * sum * sigmoid(t.dt[e]);
        if (dz) dz[e] -= g[e] * step * t.x[e] * sum * (s + gate * (1 - s));
      });
    });
  });
}

MOLT_KERNELS(instant_terms_kernels, Device::kCpu, {forward, backward});

}  // namespace
}  // namespace molt::ops

#include "molt/ops/rotate.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "molt/device/cpu/parallel.h"
#include "molt/ops/products.h"

namespace molt::ops {
namespace {

using Square = std::vector<double>;  // K × K, row by row; small, so always in double

Square identity(int64_t K, double value = 1) {
  Square m(static_cast<size_t>(K * K), 0);
  for (int64_t i = 0; i < K; ++i) m[static_cast<size_t>(i * K + i)] = value;
  return m;
}

/// op(a) · op(b), op transposing where asked.
Square product(const Square& a, bool ta, const Square& b, bool tb, int64_t K) {
  Square c(a.size(), 0);
  for (int64_t i = 0; i < K; ++i) {
    for (int64_t k = 0; k < K; ++k) {
      const double f = a[static_cast<size_t>(ta ? k * K + i : i * K + k)];
      for (int64_t j = 0; j < K; ++j)
        c[static_cast<size_t>(i * K + j)] += f * b[static_cast<size_t>(tb ? j * K + k : k * K + j)];
    }
  }
  return c;
}

void add(Square& to, const Square& from, double factor = 1) {
  for (size_t i = 0; i < to.size(); ++i) to[i] += factor * from[i];
}

/// By Gauss and Jordan with pivots; I + Q of a skew-symmetric Q is never singular.
Square inverse(Square m, int64_t K) {
  Square out = identity(K);
  auto at = [K](Square& s, int64_t i, int64_t j) -> double& { return s[static_cast<size_t>(i * K + j)]; };
  for (int64_t c = 0; c < K; ++c) {
    int64_t pivot = c;
    for (int64_t r = c + 1; r < K; ++r) {
      if (std::abs(at(m, r, c)) > std::abs(at(m, pivot, c))) pivot = r;
    }
    for (int64_t j = 0; j < K; ++j)
      std::swap(at(m, c, j), at(m, pivot, j)), std::swap(at(out, c, j), at(out, pivot, j));
    const double f = 1 / at(m, c, c);
    for (int64_t j = 0; j < K; ++j) at(m, c, j) *= f, at(out, c, j) *= f;
    for (int64_t r = 0; r < K; ++r) {
      const double g = at(m, r, c);
      if (r == c || g == 0) continue;
      for (int64_t j = 0; j < K; ++j) at(m, r, j) -= g * at(m, c, j), at(out, r, j) -= g * at(out, c, j);
    }
  }
  return out;
}

Square skew(const double* v, int64_t K) {
  Square q(static_cast<size_t>(K * K), 0);
  for (int64_t i = 0; i < K; ++i) {
    for (int64_t j = i + 1; j < K; ++j, ++v) {
      q[static_cast<size_t>(i * K + j)] = *v;
      q[static_cast<size_t>(j * K + i)] = -*v;
    }
  }
  return q;
}

/// The coefficient of Qᵖ in the series of t terms.
double coefficient(int64_t p, int64_t t) { return p == 0 ? 1 : p == t - 1 && t > 2 ? 1 : 2; }

/// Horner: H_{t-1} = c_{t-1} I, H_p = c_p I + Q H_{p+1}, R = H_0.
std::vector<Square> horner(const Square& q, int64_t K, int64_t terms) {
  if (terms == 3) terms = 4;
  std::vector<Square> h(static_cast<size_t>(terms));
  for (int64_t p = terms - 1; p >= 0; --p) {
    Square& now = h[static_cast<size_t>(p)];
    now = identity(K, coefficient(p, terms));
    if (p + 1 < terms) add(now, product(q, false, h[static_cast<size_t>(p + 1)], false, K));
  }
  return h;
}

constexpr int64_t kGrain = 64;  // rotations that are worth a thread

/// Blocks up to this width are multiplied here: there are hundreds of them, and a call of a product for each would cost
/// more than the product.
constexpr int64_t kNarrow = 16;

/// f(width), a constant that the compiler sees where the width is a usual one; 0 stands for any other.
template <class F>
void with_width(int64_t K, const F& f) {
  if (K == 2) return f(std::integral_constant<int64_t, 2>());
  if (K == 4) return f(std::integral_constant<int64_t, 4>());
  if (K == 8) return f(std::integral_constant<int64_t, 8>());
  if (K == 12) return f(std::integral_constant<int64_t, 12>());
  if (K == 16) return f(std::integral_constant<int64_t, 16>());
  f(std::integral_constant<int64_t, 0>());
}

/// Row by row, each through all blocks. `transposed`: R[b, c, k] in the place of R[b, k, c].
template <class T, int64_t kWidth>
void narrow_product(const Tensor& x, const Tensor& R, bool transposed, const GradOut& to) {
  const int64_t K = kWidth > 0 ? kWidth : R.dim(2), blocks = x.cols() / K, step = R.dim(0) == 1 ? 0 : K * K;
  const T* matrices = R.data<T>();
  std::vector<T> turned;
  if (transposed) {
    turned.resize(static_cast<size_t>(R.numel()));
    for (int64_t i = 0; i < R.numel(); ++i)
      turned[static_cast<size_t>(i / (K * K) * K * K + i % K * K + i / K % K)] = matrices[i];
    matrices = turned.data();
  }
  parallel_for(x.rows(), 8, [&](int64_t t) {
    const T* from = x.data<T>() + t * x.ld();
    T* out = to.tensor.data<T>() + t * to.tensor.ld();
    const T* r = matrices;
    for (int64_t b = 0; b < blocks; ++b, from += K, out += K, r += step) {
      T sum[kNarrow] = {};
      for (int64_t k = 0; k < K; ++k) {
        for (int64_t c = 0; c < K; ++c) sum[c] += from[k] * r[k * K + c];
      }
      for (int64_t c = 0; c < K; ++c) out[c] = to.accumulate ? out[c] + sum[c] : sum[c];
    }
  });
}

/// dR[b, k, c] = Σ_t x[t, b·K + k] · dy[t, b·K + c], dR (blocks, K, K).
template <class T, int64_t kWidth>
void narrow_gradient(const Tensor& x, const Tensor& dy, const Tensor& dR) {
  const int64_t K = kWidth > 0 ? kWidth : dR.dim(2);
  parallel_ranges(dR.dim(0), 16, [&](int64_t begin, int64_t end) {
    for (int64_t t = 0; t < x.rows(); ++t) {
      const T *from = x.data<T>() + t * x.ld() + begin * K, *g = dy.data<T>() + t * dy.ld() + begin * K;
      T* sum = dR.data<T>() + begin * K * K;
      for (int64_t b = begin; b < end; ++b, from += K, g += K, sum += K * K) {
        for (int64_t k = 0; k < K; ++k) {
          for (int64_t c = 0; c < K; ++c) sum[k * K + c] += from[k] * g[c];
        }
      }
    }
  });
}

}  // namespace

Tensor Cayley::forward(const Needs& needs, const Tensor& v_in) {
  const int64_t K = size, B = v_in.rows(), n = K * (K - 1) / 2;
  MOLT_CHECK(v_in.cols() == n && terms >= 0 && terms != 1, "cayley: ", shape_str(v_in.shape()), " for blocks of ", K);
  const std::vector<double> values = v_in.values();
  std::vector<double> out(static_cast<size_t>(B * K * K));
  parallel_for(B, kGrain, [&](int64_t b) {
    const Square q = skew(values.data() + b * n, K);
    Square r;
    if (terms > 0) {
      r = horner(q, K, terms)[0];
    } else {
      Square plus = identity(K), minus = identity(K);
      add(plus, q), add(minus, q, -1);
      r = product(inverse(plus, K), false, minus, false, K);
    }
    std::copy(r.begin(), r.end(), out.begin() + b * K * K);
  });
  if (needs.any()) v = v_in;
  return Tensor::from(out, {B, K, K}).to(v_in.dtype());
}

void Cayley::backward(const Tensor& dR, Grads& d) const {
  const int64_t K = size, B = v.rows(), n = K * (K - 1) / 2;
  const std::vector<double> values = v.values(), grads = dR.values();
  std::vector<double> out(static_cast<size_t>(B * n));
  parallel_for(B, kGrain, [&](int64_t b) {
    const Square q = skew(values.data() + b * n, K);
    Square dq(q.size(), 0), g(grads.begin() + b * K * K, grads.begin() + (b + 1) * K * K);
    if (terms > 0) {
      const std::vector<Square> h = horner(q, K, terms);
      for (size_t p = 0; p + 1 < h.size(); ++p) {  // H_p = c_p I + Q H_{p+1}
        add(dq, product(g, false, h[p + 1], true, K));
        g = product(q, true, g, false, K);
      }
    } else {  // R = 2 (I + Q)⁻¹ − I
      Square plus = identity(K);
      add(plus, q);
      const Square m = inverse(plus, K);
      add(dq, product(product(m, true, g, false, K), false, m, true, K), -2);
    }
    double* to = out.data() + b * n;
    for (int64_t i = 0; i < K; ++i) {
      for (int64_t j = i + 1; j < K; ++j)
        *to++ = dq[static_cast<size_t>(i * K + j)] - dq[static_cast<size_t>(j * K + i)];
    }
  });
  d.give(0, Tensor::from(out, v.shape()).to(v.dtype()));
}

void multiply_blocks(const Tensor& x, const Tensor& R, bool transposed, const GradOut& to) {
  const int64_t K = R.dim(2), blocks = x.cols() / K;
  if (K > kNarrow) {
    for (int64_t b = 0; b < blocks; ++b) {
      const Tensor r = R.row_range(R.dim(0) == 1 ? 0 : b, 1).reshape({K, K});
      multiply(false, transposed, 1, x.col_range(b * K, K), r, {to.tensor.col_range(b * K, K), to.accumulate});
    }
    return;
  }
  with_compute_type(x.dtype(), [&](auto tag) {
    with_width(K, [&](auto width) { narrow_product<decltype(tag), decltype(width)::value>(x, R, transposed, to); });
  });
}

Tensor BlockRotate::forward(const Needs& needs, const Tensor& x_in, const Tensor& R_in) {
  const int64_t K = R_in.dim(2), blocks = x_in.cols() / K;
  MOLT_CHECK(R_in.dim(1) == K && blocks * K == x_in.cols() && (R_in.dim(0) == blocks || R_in.dim(0) == 1),
             "block_rotate: R ", shape_str(R_in.shape()), ", x ", shape_str(x_in.shape()));
  const Tensor y = x_in.like({x_in.rows(), x_in.cols()});
  multiply_blocks(x_in, R_in, false, {y, false});
  if (needs.any()) {
    R = R_in;
    if (needs.wants(1)) x = x_in;
  }
  return y;
}

void BlockRotate::backward(const Tensor& dy, Grads& d) const {
  const int64_t K = R.dim(2), blocks = dy.cols() / K;
  if (d.wants(1)) {
    Tensor dR = Tensor::zeros({blocks, K, K}, R.dtype());
    if (K > kNarrow) {
      for (int64_t b = 0; b < blocks; ++b)
        multiply(true, false, 1, x.col_range(b * K, K), dy.col_range(b * K, K),
                 {dR.row_range(b, 1).reshape({K, K}), false});
    } else {
      with_compute_type(dy.dtype(), [&](auto tag) {
        with_width(K, [&](auto width) { narrow_gradient<decltype(tag), decltype(width)::value>(x, dy, dR); });
      });
    }
    if (R.dim(0) == 1) {
      const Tensor sum = Tensor::empty({K * K}, R.dtype());
      sum_rows(dR.reshape({blocks, K * K}), {sum, false});
      dR = sum.reshape(R.shape());
    }
    d.give(1, dR);
  }
  if (d.wants(0)) multiply_blocks(dy, R, true, d.out(0));
}

}  // namespace molt::ops

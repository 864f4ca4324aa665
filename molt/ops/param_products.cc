#include "molt/ops/param_products.h"

#include "molt/ops/products.h"

namespace molt::ops {
namespace {

/// Calls f(pair, r, s, i): flat places in the output, a and b of each product.
template <class F>
void for_pairs(const Tensor& a, const Tensor& b, bool rows, const F& f) {
  const int64_t R = rows ? a.rows() : a.cols(), S = rows ? b.rows() : b.cols(), M = rows ? a.cols() : a.rows();
  if (rows) {
    for (int64_t r = 0; r < R; ++r) {
      for (int64_t s = 0; s < S; ++s) {
        for (int64_t i = 0; i < M; ++i) f((r * S + s) * M + i, r * M + i, s * M + i);
      }
    }
  } else {
    for (int64_t i = 0; i < M; ++i) {
      for (int64_t r = 0; r < R; ++r) {
        for (int64_t s = 0; s < S; ++s) f((i * R + r) * S + s, i * R + r, i * S + s);
      }
    }
  }
}

}  // namespace

Tensor ParamProduct::forward(const Needs& needs, const Tensor& a_in, const Tensor& b_in) {
  MOLT_CHECK(a_in.cols() == b_in.rows(), "param_product: ", shape_str(a_in.shape()), " by ", shape_str(b_in.shape()));
  const Tensor y = a_in.like({a_in.rows(), b_in.cols()});
  multiply(false, false, scale, a_in, b_in, {y, false});
  if (needs.any()) a = a_in, b = b_in;
  return y;
}

void ParamProduct::backward(const Tensor& dy, Grads& d) const {
  if (d.wants(0)) multiply(false, true, scale, dy, b, d.out(0));
  if (d.wants(1)) multiply(true, false, scale, a, dy, d.out(1));
}

Tensor PairProducts::forward(const Needs& needs, const Tensor& a_in, const Tensor& b_in) {
  MOLT_CHECK((rows ? a_in.cols() == b_in.cols() : a_in.rows() == b_in.rows()) && a_in.contiguous() && b_in.contiguous(),
             "pair_products: ", shape_str(a_in.shape()), " with ", shape_str(b_in.shape()));
  const Tensor y =
      rows ? a_in.like({a_in.rows() * b_in.rows(), a_in.cols()}) : a_in.like({a_in.rows(), a_in.cols() * b_in.cols()});
  with_compute_type(y.dtype(), [&](auto tag) {
    using T = decltype(tag);
    T* to = y.data<T>();
    const T *av = a_in.data<T>(), *bv = b_in.data<T>();
    for_pairs(a_in, b_in, rows, [&](int64_t o, int64_t i, int64_t j) { to[o] = av[i] * bv[j]; });
  });
  if (needs.any()) a = a_in, b = b_in;
  return y;
}

void PairProducts::backward(const Tensor& dy, Grads& d) const {
  const Tensor g = dy.contiguous() ? dy : dy.clone();
  with_compute_type(dy.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const T *gv = g.data<T>(), *av = a.data<T>(), *bv = b.data<T>();
    auto sum = [&](int input, const Tensor& of, const auto& add) {
      if (!d.wants(input)) return;
      const Tensor grad = Tensor::zeros(of.shape(), of.dtype());
      T* to = grad.data<T>();
      for_pairs(a, b, rows, [&](int64_t o, int64_t i, int64_t j) { add(to, gv[o], i, j); });
      d.give(input, grad);
    };
    sum(0, a, [&](T* to, T value, int64_t i, int64_t j) { to[i] += value * bv[j]; });
    sum(1, b, [&](T* to, T value, int64_t i, int64_t j) { to[j] += value * av[i]; });
  });
}

}  // namespace molt::ops

#include "molt/peft/base_weight.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "molt/base/error.h"
#include "molt/base/rng.h"
#include "molt/nn/parameter.h"
#include "molt/ops/products.h"
#include "molt/tensor/matrix_view.h"

namespace molt::peft {
namespace {

/// Rows made orthonormal in place, in order; a row that depends on earlier ones becomes zero. Twice, since once leaves
/// what rounding left.
void orthonormalise_rows(const Tensor& m) {
  with_compute_type(m.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const int64_t n = m.cols();
    for (int64_t i = 0; i < m.rows(); ++i) {
      T* row = m.data<T>() + i * m.ld();
      double before = 0;
      for (int64_t c = 0; c < n; ++c) before += static_cast<double>(row[c]) * row[c];
      for (int pass = 0; pass < 2; ++pass) {
        for (int64_t j = 0; j < i; ++j) {
          const T* other = m.data<T>() + j * m.ld();
          double dot = 0;
          for (int64_t c = 0; c < n; ++c) dot += static_cast<double>(row[c]) * other[c];
          for (int64_t c = 0; c < n; ++c) row[c] -= static_cast<T>(dot * other[c]);
        }
      }
      double norm = 0;
      for (int64_t c = 0; c < n; ++c) norm += static_cast<double>(row[c]) * row[c];
      const double tiny = std::is_same_v<T, double> ? 1e-24 : 1e-11;
      const double f = norm <= tiny * before ? 0 : 1 / std::sqrt(norm);
      for (int64_t c = 0; c < n; ++c) row[c] = static_cast<T>(row[c] * f);
    }
  });
}

/// Eigenvalues, descending, and eigenvectors (columns) of a symmetric k × k matrix: Jacobi's rotations.
void symmetric_eigen(std::vector<double> m, int64_t k, std::vector<double>& values, std::vector<double>& vectors) {
  auto at = [k](std::vector<double>& v, int64_t i, int64_t j) -> double& { return v[static_cast<size_t>(i * k + j)]; };
  std::vector<double> v(static_cast<size_t>(k * k), 0);
  for (int64_t i = 0; i < k; ++i) at(v, i, i) = 1;
  for (int sweep = 0; sweep < 60; ++sweep) {
    double off = 0, all = 0;
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = 0; j < k; ++j) (i == j ? all : off) += at(m, i, j) * at(m, i, j);
    }
    if (off <= 1e-30 * all) break;
    for (int64_t p = 0; p < k; ++p) {
      for (int64_t q = p + 1; q < k; ++q) {
        if (at(m, p, q) == 0) continue;
        const double theta = (at(m, q, q) - at(m, p, p)) / (2 * at(m, p, q));
        const double t = (theta >= 0 ? 1 : -1) / (std::abs(theta) + std::sqrt(theta * theta + 1));
        const double c = 1 / std::sqrt(t * t + 1), s = t * c;
        for (int64_t i = 0; i < k; ++i) {
          const double a = at(m, i, p), b = at(m, i, q);
          at(m, i, p) = c * a - s * b, at(m, i, q) = s * a + c * b;
        }
        for (int64_t i = 0; i < k; ++i) {
          const double a = at(m, p, i), b = at(m, q, i);
          at(m, p, i) = c * a - s * b, at(m, q, i) = s * a + c * b;
          const double x = at(v, i, p), y = at(v, i, q);
          at(v, i, p) = c * x - s * y, at(v, i, q) = s * x + c * y;
        }
      }
    }
  }
  std::vector<int64_t> order(static_cast<size_t>(k));
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return at(m, a, a) > at(m, b, b); });
  values.clear();
  vectors.assign(static_cast<size_t>(k * k), 0);
  for (int64_t j = 0; j < k; ++j) {
    const int64_t from = order[static_cast<size_t>(j)];
    values.push_back(std::max(0.0, at(m, from, from)));
    for (int64_t i = 0; i < k; ++i) at(vectors, i, j) = at(v, i, from);
  }
}

void check_rank(const Tensor& W, int64_t rank, const char* init) {
  if (rank > std::min(W.rows(), W.cols()))
    usage_error("init_lora_weights: ", init, " needs r at most ", std::min(W.rows(), W.cols()), " for a weight of ",
                shape_str(W.shape()), ", r is ", rank);
}

Tensor transposed(const Tensor& m) {
  Tensor t = Tensor::empty({m.cols(), m.rows()}, m.dtype());
  with_compute_type(m.dtype(), [&](auto tag) {
    using T = decltype(tag);
    for (int64_t r = 0; r < m.rows(); ++r) {
      for (int64_t c = 0; c < m.cols(); ++c) t.data<T>()[c * m.rows() + r] = m.data<T>()[r * m.ld() + c];
    }
  });
  return t;
}

}  // namespace

bool has_weights(const nn::Site& site) {
  return site.parameter && (site.parameter->packed || site.parameter->var.defined());
}

Tensor base_rows(const nn::Site& site, int64_t begin, int64_t count, Dtype dtype) {
  const nn::Parameter& p = *site.parameter;
  if (p.trained || !p.packed) return p.var.value().row_range(begin, count).to(dtype);
  Tensor rows = Tensor::empty({count, p.shape[1]}, dtype);
  p.packed->read_rows(begin, matrix_view(rows));
  return rows;
}

Tensor lost_rows(const nn::Site& site, int64_t begin, int64_t count, Dtype dtype) {
  const nn::Parameter& p = *site.parameter;
  if (!p.source.defined()) return {};
  Tensor kept = base_rows(site, begin, count, dtype), lost = p.source.row_range(begin, count).to(dtype);
  kept.scale(-1);
  lost.add(kept);
  return lost;
}

Tensor times_base(const nn::Site& site, const Tensor& a) {
  const nn::Parameter& p = *site.parameter;
  const Tensor out = Tensor::empty({a.rows(), p.shape[0]}, a.dtype());
  if (p.trained || !p.packed) {
    ops::multiply(false, true, 1, a, p.var.value().to(a.dtype()), {out, false});
  } else {
    p.packed->forward(matrix_view(a), matrix_view(out));
  }
  return out;
}

std::pair<Tensor, Tensor> principal_pair(const Tensor& W, int64_t rank, double scale, int64_t iterations,
                                         uint64_t seed) {
  check_rank(W, rank, "pissa");
  const int64_t O = W.rows(), I = W.cols(), k = std::min(rank + 8, std::min(O, I));
  const Rng rng(seed, "principal_pair");
  std::vector<double> draws(static_cast<size_t>(k * I));
  for (size_t i = 0; i < draws.size(); ++i) draws[i] = rng.normal(i);
  Tensor right = Tensor::from(draws, {k, I}).to(W.dtype()), left = Tensor::empty({k, O}, W.dtype());
  for (int64_t i = 0; i <= iterations; ++i) {
    ops::multiply(false, true, 1, right, W, {left, false});
    orthonormalise_rows(left);
    ops::multiply(false, false, 1, left, W, {right, false});
    if (i < iterations) orthonormalise_rows(right);
  }
  // W ≈ leftᵀ right; the rest is a small problem.
  const Tensor wide = right.to(Dtype::kF64);
  const Tensor gram = Tensor::empty({k, k}, Dtype::kF64);
  ops::multiply(false, true, 1, wide, wide, {gram, false});
  std::vector<double> squares, vectors;
  symmetric_eigen(gram.values(), k, squares, vectors);
  const std::vector<double> l = left.values(), r = wide.values();
  std::vector<double> a(static_cast<size_t>(rank * I), 0), b(static_cast<size_t>(O * rank), 0);
  for (int64_t j = 0; j < rank; ++j) {
    const double sigma = std::sqrt(squares[static_cast<size_t>(j)]);
    const double root = std::sqrt(sigma / scale), f = sigma > 0 ? root / sigma : 0;
    for (int64_t i = 0; i < k; ++i) {
      const double u = vectors[static_cast<size_t>(i * k + j)];
      for (int64_t c = 0; c < I; ++c) a[static_cast<size_t>(j * I + c)] += f * u * r[static_cast<size_t>(i * I + c)];
      for (int64_t o = 0; o < O; ++o)
        b[static_cast<size_t>(o * rank + j)] += root * u * l[static_cast<size_t>(i * O + o)];
    }
  }
  return {Tensor::from(a, {rank, I}).to(W.dtype()), Tensor::from(b, {O, rank}).to(W.dtype())};
}

std::pair<Tensor, Tensor> leading_qr_pair(const Tensor& W, int64_t rank) {
  check_rank(W, rank, "olora");
  const Tensor Q = transposed(W.col_range(0, rank));
  orthonormalise_rows(Q);
  const Tensor A = Tensor::empty({rank, W.cols()}, W.dtype());
  ops::multiply(false, false, 1, Q, W, {A, false});
  return {A, transposed(Q)};
}

}  // namespace molt::peft

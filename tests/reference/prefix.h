// What a Mamba mixer remembers of rows that stood before its input, in plain double loops: Proposition 1 (Galim et al.,
// 2025) with the convolution's left context.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "molt/io/checkpoint.h"

namespace molt::reference {

struct Remembered {
  Tensor conv;  ///< (K−1, E), oldest first
  Tensor ssm;   ///< (E, N): Σ_m (Π_{j>m} Ābar_j) B̄_m x_m
};

/// `mixer`: "backbone.layers.0.mixer."; rows (M, D).
inline Remembered remember(const io::Checkpoint& checkpoint, const std::string& mixer, const Tensor& rows) {
  const auto weight = [&](const char* name) { return checkpoint.tensor(mixer + name).values(); };
  const auto has = [&](const char* name) {
    for (const std::string& n : checkpoint.names()) {
      if (n == mixer + name) return true;
    }
    return false;
  };
  const Shape a_shape = checkpoint.tensor(mixer + "A_log").shape();
  const int64_t E = a_shape[0], N = a_shape[1], M = rows.dim(0), D = rows.dim(1);
  const int64_t K = checkpoint.tensor(mixer + "conv1d.weight").shape().back();
  const int64_t R = checkpoint.tensor(mixer + "dt_proj.weight").dim(1);
  const auto in = rows.values(), w_in = weight("in_proj.weight"), w_conv = weight("conv1d.weight");
  const auto w_x = weight("x_proj.weight"), w_dt = weight("dt_proj.weight"), b_dt = weight("dt_proj.bias");
  const auto A_log = weight("A_log");
  const auto b_in = has("in_proj.bias") ? weight("in_proj.bias") : std::vector<double>(static_cast<size_t>(2 * E), 0.0);
  const auto b_conv = has("conv1d.bias") ? weight("conv1d.bias") : std::vector<double>(static_cast<size_t>(E), 0.0);
  const auto at = [](const std::vector<double>& m, int64_t row, int64_t width, int64_t col) {
    return m[static_cast<size_t>(row * width + col)];
  };

  std::vector<double> u(static_cast<size_t>((K - 1 + M) * E), 0.0);  // K−1 zeros, then in_proj's x half
  for (int64_t m = 0; m < M; ++m) {
    for (int64_t e = 0; e < E; ++e) {
      double sum = b_in[static_cast<size_t>(e)];
      for (int64_t i = 0; i < D; ++i) sum += at(w_in, e, D, i) * at(in, m, D, i);
      u[static_cast<size_t>((K - 1 + m) * E + e)] = sum;
    }
  }
  std::vector<double> h(static_cast<size_t>(E * N), 0.0);
  for (int64_t m = 0; m < M; ++m) {
    std::vector<double> x(static_cast<size_t>(E)), low(static_cast<size_t>(R + 2 * N));
    for (int64_t e = 0; e < E; ++e) {
      double sum = b_conv[static_cast<size_t>(e)];
      for (int64_t k = 0; k < K; ++k) sum += at(w_conv, e, K, k) * at(u, m + k, E, e);
      x[static_cast<size_t>(e)] = sum / (1 + std::exp(-sum));
    }
    for (int64_t o = 0; o < R + 2 * N; ++o) {
      for (int64_t e = 0; e < E; ++e) low[static_cast<size_t>(o)] += at(w_x, o, E, e) * x[static_cast<size_t>(e)];
    }
    for (int64_t e = 0; e < E; ++e) {
      double raw = b_dt[static_cast<size_t>(e)];
      for (int64_t r = 0; r < R; ++r) raw += at(w_dt, e, R, r) * low[static_cast<size_t>(r)];
      const double dt = std::log1p(std::exp(raw));
      for (int64_t n = 0; n < N; ++n) {
        double& state = h[static_cast<size_t>(e * N + n)];
        state = std::exp(-dt * std::exp(at(A_log, e, N, n))) * state +
                dt * low[static_cast<size_t>(R + n)] * x[static_cast<size_t>(e)];
      }
    }
  }
  const std::vector<double> tail(u.end() - static_cast<std::ptrdiff_t>((K - 1) * E), u.end());
  return {Tensor::from(tail, {K - 1, E}), Tensor::from(h, {E, N})};
}

}  // namespace molt::reference

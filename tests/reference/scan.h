// The selective scan in plain double loops, one token, channel and state at a time.
#pragma once

#include <cmath>
#include <vector>

#include "molt/tensor/segments.h"
#include "molt/tensor/tensor.h"

namespace molt::reference {

struct Scan {
  std::vector<double> y, state;  // (T, E), (S, E, N)
};

struct ScanInputs {
  Tensor x, dt, A_log, B, C, D, z, h0;  // f64; D, z, h0 may be undefined
};

/// h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t x_t, y_t = (Σ_n C_t h_t + D x_t) · silu(z_t), Δ = softplus(dt), A = -exp(A_log).
inline Scan selective_scan(const ScanInputs& in, const Segments& segments) {
  const int64_t width = in.x.dim(1), states = in.A_log.dim(1);
  Scan out;
  out.y.resize(static_cast<size_t>(in.x.numel()));
  out.state.resize(static_cast<size_t>(segments.count() * width * states));
  auto at = [](const Tensor& t, int64_t row, int64_t col) { return t.data<double>()[row * t.ld() + col]; };
  for (int64_t s = 0; s < segments.count(); ++s) {
    for (int64_t e = 0; e < width; ++e) {
      double* h = out.state.data() + (s * width + e) * states;
      for (int64_t n = 0; n < states; ++n)
        h[n] = in.h0.defined() ? in.h0.data<double>()[(s * width + e) * states + n] : 0;
      for (int64_t t = segments.begin(s); t < segments.end(s); ++t) {
        const double raw = at(in.dt, t, e), x = at(in.x, t, e);
        const double dt = raw > 20 ? raw : std::log1p(std::exp(raw));
        double y = in.D.defined() ? in.D.data<double>()[e] * x : 0;
        for (int64_t n = 0; n < states; ++n) {
          h[n] = std::exp(-dt * std::exp(at(in.A_log, e, n))) * h[n] + dt * at(in.B, t, n) * x;
          y += at(in.C, t, n) * h[n];
        }
        if (in.z.defined()) y *= at(in.z, t, e) / (1 + std::exp(-at(in.z, t, e)));
        out.y[static_cast<size_t>(t * width + e)] = y;
      }
    }
  }
  return out;
}

}  // namespace molt::reference

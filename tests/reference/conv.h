// The causal convolution in plain double loops: slow, and as close to its formula as can be.
#pragma once

#include <cmath>
#include <vector>

#include "molt/tensor/segments.h"
#include "molt/tensor/tensor.h"

namespace molt::reference {

struct Conv {
  std::vector<double> y, tail;  // (T, E), (S, K-1, E)
};

/// y_t = act(bias + Σ_k weight[:, k] · x_{t-K+1+k}); all inputs f64, bias and tail may be undefined.
inline Conv conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& tail,
                   const Segments& segments, bool silu) {
  const int64_t width = x.dim(1), taps = weight.dim(1), before = taps - 1;
  const auto xs = x.values(), ws = weight.values();
  Conv out;
  out.y.resize(xs.size());
  for (int64_t s = 0; s < segments.count(); ++s) {
    // Input i of this segment; negative i lies in the tail.
    auto input = [&](int64_t i, int64_t e) {
      if (i >= 0) return xs[static_cast<size_t>((segments.begin(s) + i) * width + e)];
      return tail.defined() ? tail.data<double>()[(s * before + before + i) * width + e] : 0.0;
    };
    for (int64_t l = 0; l < segments.length(s); ++l) {
      for (int64_t e = 0; e < width; ++e) {
        double sum = bias.defined() ? bias.data<double>()[e] : 0;
        for (int64_t k = 0; k < taps; ++k) sum += ws[static_cast<size_t>(e * taps + k)] * input(l - before + k, e);
        out.y[static_cast<size_t>((segments.begin(s) + l) * width + e)] = silu ? sum / (1 + std::exp(-sum)) : sum;
      }
    }
    for (int64_t j = 0; j < before; ++j) {
      for (int64_t e = 0; e < width; ++e) out.tail.push_back(input(segments.length(s) - before + j, e));
    }
  }
  return out;
}

}  // namespace molt::reference

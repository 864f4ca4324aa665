// Causal depthwise convolution with SiLU, over a flat stream of tokens; every segment starts afresh, or from the last
// inputs that came before it. Goal: exact over any split of a segment. Non-goal: dilation, stride, channel mixing.
#pragma once

#include <array>
#include <memory>

#include "molt/autograd/tape.h"
#include "molt/device/kernel_table.h"
#include "molt/tensor/segments.h"

namespace molt::ops {

/// What both directions read. f32 or f64, all of one type, but beside f32 x may be bf16, and its gradient then is too
/// (four taps with SiLU only); a tail's numbers are rounded to x's type.
struct ConvInputs {
  Tensor x;       ///< (T, E), may be a view of columns
  Tensor weight;  ///< (E, K)
  Tensor bias;    ///< (E) or undefined
  Tensor tail;    ///< (S, K-1, E): the inputs before each segment, oldest first; undefined: zeros
  std::shared_ptr<const Segments> segments;
  bool silu = true;
};

/// Gradients in and out; undefined ones are absent or not wanted.
struct ConvGrads {
  Tensor dy;         ///< (T, E)
  Tensor dtail_out;  ///< (S, K-1, E)
  GradOut dx, dtail;
  Tensor dweight, dbias;  ///< (E, K) and (E), overwritten
};

struct ConvKernels {
  /// tail_out undefined: not wanted.
  void (*forward)(const ConvInputs& in, const Tensor& y, const Tensor& tail_out) = nullptr;
  void (*backward)(const ConvInputs& in, const ConvGrads& grads) = nullptr;
};
inline constinit KernelTable<ConvKernels> conv_kernels{"conv1d"};

struct Conv1d {
  static constexpr const char* kName = "conv1d";
  std::shared_ptr<const Segments> segments;
  bool want_tail = false, silu = true;
  ConvInputs saved{};

  /// Inputs: x, weight, bias, tail. Outputs: y, tail.
  std::array<Tensor, 2> forward(const Needs& needs, const Tensor& x, const Tensor& weight, const Tensor& bias,
                                const Tensor& tail);
  void backward(const std::array<Tensor, 2>& dy, Grads& d) const;
};

struct ConvResult {
  Var y;     ///< (T, E)
  Var tail;  ///< (S, K-1, E): what the next span of each segment starts from; undefined unless wanted
};

/// y_t = act(bias + Σ_k weight[:, k] · x_{t-K+1+k}), act = SiLU or nothing. x (T, E), weight (E, K), bias (E) or
/// undefined, tail (S, K-1, E) or undefined (zeros). Differentiable in all four, also through the returned tail.
ConvResult conv1d_silu(const Var& x, const Var& weight, const Var& bias, const Var& tail, const Segments& segments,
                       bool want_tail, bool silu = true);

}  // namespace molt::ops

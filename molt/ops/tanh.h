// The hyperbolic tangent, inside the small networks that write learned rows and states in another way while they train.
#pragma once

#include "molt/autograd/tape.h"
#include "molt/device/kernel_table.h"

namespace molt::ops {

struct TanhKernels {
  /// Dense tensors of one size, f32 or f64.
  void (*forward)(const Tensor& x, const Tensor& y) = nullptr;
  /// dx = dy · (1 − y²).
  void (*backward)(const Tensor& dy, const Tensor& y, const GradOut& dx) = nullptr;
};
inline constinit KernelTable<TanhKernels> tanh_kernels{"tanh"};

struct Tanh {
  static constexpr const char* kName = "tanh";
  Tensor y{};

  Tensor forward(const Needs& needs, const Tensor& x);
  void backward(const Tensor& dy, Grads& d) const;
};

/// tanh(x), any shape, f32 or f64.
inline Var tanh(const Var& x) { return record(Tanh{}, x); }

}  // namespace molt::ops

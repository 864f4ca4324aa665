// RMS normalisation (Zhang and Sennrich, 2019): y = x / sqrt(mean(x²) + eps) · weight, row by row.
#pragma once

#include "molt/autograd/tape.h"
#include "molt/device/kernel_table.h"

namespace molt::ops {

/// Kernels on rows (T, D); x, y, dy f32 or f64, y may be bf16; inv_rms (T) in the compute type.
struct RmsNormKernels {
  void (*forward)(const Tensor& x, const Tensor& weight, double eps, const Tensor& y, const Tensor& inv_rms) = nullptr;
  /// dx.tensor undefined: not wanted. dweight undefined: not wanted; it is added to.
  void (*backward)(const Tensor& x, const Tensor& weight, const Tensor& inv_rms, const Tensor& dy, const GradOut& dx,
                   const Tensor& dweight) = nullptr;
};
inline constinit KernelTable<RmsNormKernels> rms_norm_kernels{"rms_norm"};

struct RmsNorm {
  static constexpr const char* kName = "rms_norm";
  double eps = 1e-5;
  Tensor x{}, weight{}, inv_rms{};  // saved for backward

  Tensor forward(const Needs& needs, const Tensor& x_in, const Tensor& weight_in);
  void backward(const Tensor& dy, Grads& d) const;
};

/// x (T, D), weight (D) -> (T, D).
inline Var rms_norm(const Var& x, const Var& weight, double eps) { return record(RmsNorm{eps}, x, weight); }

}  // namespace molt::ops

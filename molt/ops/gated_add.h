// Something added behind the scan's gate, the same for every token: y += silu(z) · u. Output tuning (Kang et al.,
// 2025); what differs from token to token is ops/offset_readout.h.
#pragma once

#include "molt/autograd/tape.h"
#include "molt/device/kernel_table.h"

namespace molt::ops {

struct GatedAddKernels {
  /// y (T, E) += silu(z) · u, u (E). f32 or f64, but beside f32 y and z may be bf16 (with dy and dz); matrices may be
  /// views of columns.
  void (*forward)(const Tensor& z, const Tensor& u, const Tensor& y) = nullptr;
  /// dz = dy · u · silu'(z) and du = Σ_t dy · silu(z); an undefined one is not wanted.
  void (*backward)(const Tensor& dy, const Tensor& z, const Tensor& u, const GradOut& dz, const GradOut& du) = nullptr;
};
inline constinit KernelTable<GatedAddKernels> gated_add_kernels{"gated_add"};

struct GatedAdd {
  static constexpr const char* kName = "gated_add";
  Tensor z{}, u{};

  Tensor forward(const Needs& needs, const Tensor& y, const Tensor& z_in, const Tensor& u_in);
  void backward(const Tensor& dy, Grads& d) const;
};

/// y (T, E) with silu(z) · u added, in the memory of y: what made y must not need it again (a scan does not).
/// z (T, E); u (E).
inline Var gated_add(const Var& y, const Var& z, const Var& u) { return record(GatedAdd{}, y, z, u); }

}  // namespace molt::ops

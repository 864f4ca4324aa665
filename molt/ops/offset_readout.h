// An offset of the scan's state, read as the state is and gated with it: y += silu(z) · (C h'). State-offset tuning
// (Kang et al., 2025).
#pragma once

#include "molt/autograd/tape.h"
#include "molt/device/kernel_table.h"

namespace molt::ops {

/// What both directions read. f32 or f64, all of one type, but beside f32 y and z may be bf16 (with dy and dz).
/// Matrices may be views of columns.
struct OffsetReadoutInputs {
  Tensor z;       ///< (T, E)
  Tensor C;       ///< (T, N)
  Tensor offset;  ///< (E, N), contiguous
};

struct OffsetReadoutGrads {
  Tensor dy;                ///< (T, E)
  GradOut dz, dC, doffset;  ///< undefined ones are not wanted
};

struct OffsetReadoutKernels {
  void (*forward)(const OffsetReadoutInputs& in, const Tensor& y) = nullptr;
  void (*backward)(const OffsetReadoutInputs& in, const OffsetReadoutGrads& grads) = nullptr;
};
inline constinit KernelTable<OffsetReadoutKernels> offset_readout_kernels{"offset_readout"};

struct OffsetReadout {
  static constexpr const char* kName = "offset_readout";
  OffsetReadoutInputs in{};

  Tensor forward(const Needs& needs, const Tensor& y, const Tensor& z, const Tensor& C, const Tensor& offset);
  void backward(const Tensor& dy, Grads& d) const;
};

/// y (T, E) with silu(z_te) · Σ_n C_tn h'_en added, in the memory of y: what made y must not need it again (a scan does
/// not). z (T, E), C (T, N), offset h' (E, N). Nothing of (T, E) is kept for backward.
inline Var offset_readout(const Var& y, const Var& z, const Var& C, const Var& offset) {
  return record(OffsetReadout{}, y, z, C, offset);
}

}  // namespace molt::ops

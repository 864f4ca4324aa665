// Mamba's selective scan (Gu and Dao 2023), with the softplus before it and the gate behind it, over a flat stream of
// tokens; every segment starts from zero or from a given state. Goals: (T, E, N) never exists, forward or backward;
// exact over any split of a segment; a frozen A_log costs nothing. Non-goal: complex states.
#pragma once

#include <array>
#include <memory>

#include "molt/autograd/tape.h"
#include "molt/device/kernel_table.h"
#include "molt/tensor/segments.h"

namespace molt::ops {

/// What both directions read. f32 or f64, all of one type, but beside f32 z may be bf16: then y, dy and dz are too.
/// Matrices over tokens may be views of columns.
struct ScanTensors {
  Tensor x;      ///< (T, E)
  Tensor dt;     ///< (T, E), before softplus
  Tensor A_log;  ///< (E, N)
  Tensor B, C;   ///< (T, N)
  Tensor D;      ///< (E) or undefined
  Tensor z;      ///< (T, E) or undefined
  Tensor h0;     ///< (S, E, N) or undefined
  std::shared_ptr<const Segments> segments;
};

/// Gradients in and out; undefined ones are absent or not wanted.
struct ScanGrads {
  Tensor dy;      ///< (T, E)
  Tensor dstate;  ///< (S, E, N)
  GradOut dx, ddt, dA_log, dB, dC, dD, dz, dh0;
  IndexSetPtr A_log_rows, D_rows;  ///< if set, dA_log and dD hold these rows only
};

struct ScanKernels {
  /// state undefined: not wanted. saved null: no gradient will be asked for; otherwise it receives what backward needs.
  void (*forward)(const ScanTensors& in, const Tensor& y, const Tensor& state, Tensor* saved) = nullptr;
  void (*backward)(const ScanTensors& in, const Tensor& saved, const ScanGrads& grads) = nullptr;
};
inline constinit KernelTable<ScanKernels> scan_kernels{"selective_scan"};

struct SelectiveScan {
  static constexpr const char* kName = "selective_scan";
  std::shared_ptr<const Segments> segments;
  bool want_state = false;
  ScanTensors in{};  // saved for backward
  Tensor states{};   // every 16th state of each segment, in the kernel's layout

  /// Inputs in the order of ScanTensors. Outputs: y, state.
  std::array<Tensor, 2> forward(const Needs& needs, const Tensor& x, const Tensor& dt, const Tensor& A_log,
                                const Tensor& B, const Tensor& C, const Tensor& D, const Tensor& z, const Tensor& h0);
  void backward(const std::array<Tensor, 2>& dy, Grads& d) const;
};

struct ScanInputs {
  Var x;      ///< (T, E)
  Var dt;     ///< (T, E): before softplus, bias already added
  Var A_log;  ///< (E, N)
  Var B, C;   ///< (T, N)
  Var D;      ///< (E); undefined: no skip
  Var z;      ///< (T, E); undefined: no gate
  Var h0;     ///< (S, E, N): the state each segment starts from; undefined: zeros
};

struct ScanResult {
  Var y;      ///< (T, E)
  Var state;  ///< (S, E, N): the state after each segment; undefined unless wanted
};

/// With Δ = softplus(dt) and A = -exp(A_log), channel by channel (e) and state by state (n):
///   h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t x_t        y_t = (Σ_n C_t h_t + D x_t) · silu(z_t)
/// Differentiable in every input, also through the returned state.
ScanResult selective_scan(const ScanInputs& in, const Segments& segments, bool want_state);

}  // namespace molt::ops

// What the selective scan gives at once: the part of y_t that comes from x_t
// alone, through chosen states. Taking it away is what is left to do when a
// state has been made to forget everything (SDT-P's pruning).
#pragma once

#include "molt/autograd/tape.h"
#include "molt/device/kernel_table.h"
#include "molt/ops/scatter_entries.h"

namespace molt::ops {

/// As the scan has them: x, dt (before softplus), z (T, E); B, C (T, ≥ N).
struct InstantInputs {
  Tensor x, dt, B, C, z;
};

struct InstantGrads {
  Tensor dx, ddt, dB, dC, dz;  ///< added to; undefined ones are not wanted
};

struct InstantTermsKernels {
  /// y −= the terms of `entries`; f32 or f64.
  void (*forward)(const InstantInputs& in, const EntrySet& entries, const Tensor& y) = nullptr;
  void (*backward)(const Tensor& dy, const InstantInputs& in, const EntrySet& entries,
                   const InstantGrads& grads) = nullptr;
};
inline constinit KernelTable<InstantTermsKernels> instant_terms_kernels{"instant_terms"};

struct InstantTerms {
  static constexpr const char* kName = "instant_terms";
  EntrySetPtr entries;
  InstantInputs in{};

  Tensor forward(const Needs& needs, const Tensor& y, const Tensor& x, const Tensor& dt, const Tensor& B,
                 const Tensor& C, const Tensor& z);
  void backward(const Tensor& dy, Grads& d) const;
};

/// y (T, E) with silu(z_e) · Δ_e x_e Σ_n B_n C_n taken away, over the entries
/// (e, n) of an (E, N) set and Δ = softplus(dt); in the memory of y: what made
/// y must not need it again (a scan does not).
inline Var take_instant_terms(const Var& y, const Var& x, const Var& dt, const Var& B, const Var& C, const Var& z,
                              EntrySetPtr entries) {
  return record(InstantTerms{std::move(entries)}, y, x, dt, B, C, z);
}

}  // namespace molt::ops

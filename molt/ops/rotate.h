// Rotations of an activation, block by block: OFT (Qiu et al., 2023).
#pragma once

#include "molt/autograd/tape.h"

namespace molt::ops {

/// Rotations from skew-symmetric matrices. Input: v (B, K (K − 1) / 2), the entries above the diagonal of Q, row by
/// row; Q = −Qᵀ. Output (B, K, K): with terms = 0 Cayley's (I + Q)⁻¹ (I − Q) as PEFT has it; else PEFT's
/// "Cayley-Neumann" series I + 2 Q + 2 Q² + … + 2 Qᵗ⁻² + Qᵗ⁻¹ for t = terms (2: I + 2 Q; 3 is taken as 4, as there),
/// which is orthogonal to that order and needs no inverse.
struct Cayley {
  static constexpr const char* kName = "cayley";
  int64_t size = 0;   ///< K
  int64_t terms = 5;  ///< of the series; 0: exact
  Tensor v{};

  Tensor forward(const Needs& needs, const Tensor& v_in);
  void backward(const Tensor& dR, Grads& d) const;
};

inline Var cayley(const Var& v, int64_t size, int64_t terms) { return record(Cayley{size, terms}, v); }

/// to[t, b·K + c] = Σ_k x[t, b·K + k] · R[b, k, c], or R[b, c, k] where `transposed`. x (T, B·K), R (B, K, K), or
/// (1, K, K) for all blocks, both of one type to compute in; `to` may not be x's memory.
void multiply_blocks(const Tensor& x, const Tensor& R, bool transposed, const GradOut& to);

/// out[t, b·K + c] = Σ_k x[t, b·K + k] · R[b, k, c]. Inputs: x (T, B·K), R (B, K, K), or (1, K, K) for all blocks.
struct BlockRotate {
  static constexpr const char* kName = "block_rotate";
  Tensor x{}, R{};

  Tensor forward(const Needs& needs, const Tensor& x_in, const Tensor& R_in);
  void backward(const Tensor& dy, Grads& d) const;
};

inline Var block_rotate(const Var& x, const Var& R) { return record(BlockRotate{}, x, R); }

}  // namespace molt::ops

// Dropout (Srivastava et al., 2014): an entry survives with probability 1 − p and is then scaled by 1 / (1 − p). Which
// ones survive depends on key, row and column alone, so backward and recomputation draw again instead of keeping a
// mask.
#pragma once

#include <cstdint>

#include "molt/autograd/tape.h"
#include "molt/device/kernel_table.h"

namespace molt::ops {

/// Entry (t, c) is dropped where its 32 bits are below p · 2³². Columns come in groups of 64; with b = c mod 16 and
/// j = c / 16 mod 4, they are word j of Philox at counter (c / 64 · 16 + b, row's low half, row's high half, 0), where
/// row = first_row + t.
struct DropoutMask {
  double p = 0;
  uint64_t key = 0;
  int64_t first_row = 0;
};

struct DropoutKernels {
  /// y (T, D) <- (or +=, where it accumulates) x under the mask. x and y of one dtype: f32, f64 or bf16.
  void (*apply)(const Tensor& x, const DropoutMask& mask, const GradOut& y) = nullptr;
};
inline constinit KernelTable<DropoutKernels> dropout_kernels{"dropout"};

struct Dropout {
  static constexpr const char* kName = "dropout";
  DropoutMask mask;

  Tensor forward(const Needs& needs, const Tensor& x);
  void backward(const Tensor& dy, Grads& d) const;
};

/// x (T, D) f32, f64 or bf16 -> the same, in memory of its own (x itself where p is 0). 0 <= p < 1. `key` is made of
/// seed, optimizer step and site (mix_keys); `first_row` is the number of x's first row within the step.
inline Var dropout(const Var& x, double p, uint64_t key, int64_t first_row = 0) {
  return p == 0 ? x : record(Dropout{{p, key, first_row}}, x);
}

}  // namespace molt::ops

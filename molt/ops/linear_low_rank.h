// A frozen product with a low-rank addition in one op: what ops/linear.h and ops/low_rank.h compute one after the
// other, where the device has a kernel for both at once.
#pragma once

#include <memory>

#include "molt/autograd/tape.h"
#include "molt/device/low_rank_product.h"

namespace molt::ops {

/// Inputs: x (T, I), bias (W) or undefined, A (R, I), B (O, R).
struct LinearLowRank {
  static constexpr const char* kName = "linear_low_rank";
  std::shared_ptr<const PackedMatrix> packed;
  double scale = 1;
  int64_t begin = 0;
  Dtype out = Dtype::kF32;
  Tensor known{};   // y, where an earlier run has it
  Tensor A{}, B{};  // saved for backward; x is kept in the layout of the product
  LowRankProduct product{};

  Tensor forward(const Needs& needs, const Tensor& x, const Tensor& bias, const Tensor& A_in, const Tensor& B_in);
  void backward(const Tensor& dy, Grads& d) const;
};

/// Whether linear_low_rank() can stand for the two ops: the weight and the factors are f32 where they train.
bool can_fuse_low_rank(const PackedMatrix& packed, const Tensor& A, const Tensor& B);

/// y = x · Wᵀ + b, its columns [begin, begin + O) += scale · (x Aᵀ) Bᵀ. `known`: y, if it is to be put on the tape
/// only.
inline Var linear_low_rank(const Var& x, std::shared_ptr<const PackedMatrix> packed, const Var& bias, const Var& A,
                           const Var& B, double scale, int64_t begin = 0, Dtype out = Dtype::kF32,
                           const Tensor& known = {}) {
  return record(LinearLowRank{std::move(packed), scale, begin, out, known}, x, bias, A, B);
}

}  // namespace molt::ops

// A frozen product together with a low-rank addition (LoRA), in the passes over memory that the product makes anyway:
//   y = x · Wᵀ + b,   y[:, begin : begin + O] += scale · (x Aᵀ) Bᵀ.
// Only for weights in tiles (PackedMatrix::panels()); elsewhere the two are computed one after the other (gemm.h).
// Operands are rounded to bf16, sums are f32.
#pragma once

#include <memory>

#include "molt/device/gemm.h"

namespace molt {

struct LowRankFactors {
  ConstMatrix A;  ///< (R, I) f32
  ConstMatrix B;  ///< (O, R) f32
  double scale = 1;
  int64_t begin = 0;
};

class LowRankProduct {
 public:
  /// Whether there is a kernel for this weight and rank.
  static bool available(const PackedMatrix& weight, int64_t rank);

  LowRankProduct();
  ~LowRankProduct();
  LowRankProduct(LowRankProduct&&) noexcept;
  LowRankProduct& operator=(LowRankProduct&&) noexcept;

  /// y (T, W) from x (T, I), f32 or bf16 each; bias W values of f32 or null. With `keep`, remembers x (in bf16) and
  /// x Aᵀ for backward().
  void forward(const PackedMatrix& weight, const ConstMatrix& x, const float* bias, const LowRankFactors& factors,
               const Matrix& y, bool keep);

  /// What forward() remembers with `keep`, alone: where y is there already.
  void remember(const ConstMatrix& x, const LowRankFactors& factors);

  struct Target {
    Matrix matrix;  ///< data null: not wanted
    bool accumulate = false;
  };
  /// dx (T, I), dA (R, I) and dB (O, R), f32, from dy (T, W).
  void backward(const PackedMatrix& weight, const ConstMatrix& dy, const LowRankFactors& factors, const Target& dx,
                const Target& dA, const Target& dB) const;

 private:
  struct Kept;
  std::unique_ptr<Kept> kept_;
};

}  // namespace molt

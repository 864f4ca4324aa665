// A weight rounded to 8 bits, row by row: W[o,i] ≈ s_o · q[o,i] with whole numbers |q| <= 127 and s_o = max_i |W[o,i]|
// / 127. Also the products by it for processors without a matrix unit, where it stays as it lies here, once for both
// directions, and is widened piece by piece on the way. Private to the device room.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "molt/device/matrix.h"
#include "molt/device/memory.h"

namespace molt {

class Int8Rows {
 public:
  /// Rounds W (O,I), of any floating type and row stride, to nearest. A row that holds what is not finite is NaN whole.
  /// `lasting`: a model's weight, not a stage on the way to another layout.
  Int8Rows(const ConstMatrix& weight, bool lasting);

  int64_t outputs() const { return outputs_; }
  int64_t inputs() const { return inputs_; }
  const int8_t* data() const { return block_ ? static_cast<const int8_t*>(block_->data()) : passing_.get(); }
  const float* scales() const { return scales_.data(); }
  size_t bytes() const { return static_cast<size_t>(outputs_ * inputs_) + scales_.size() * sizeof(float); }
  template <class Out>
  void read_row(int64_t row, Out* out) const {
    for (int64_t i = 0; i < inputs_; ++i)
      out[i] = static_cast<Out>(scales_[static_cast<size_t>(row)] * static_cast<float>(data()[row * inputs_ + i]));
  }

  /// y (T,O) = x (T,I) · Wᵀ + bias, or y += …; x and y f32 or bf16 with any row stride, sums f32. `wide`: the type in
  /// which many rows are multiplied, f32 or bf16.
  void forward(const ConstMatrix& x, const Matrix& y, const float* bias, bool accumulate, Dtype wide) const;
  /// dx (T,I) = dy (T,O) · W, or dx += … .
  void backward(const ConstMatrix& dy, const Matrix& dx, bool accumulate, Dtype wide) const;

 private:
  /// Rows [begin, begin + n) widened, times their factors.
  void widen(int64_t begin, const Matrix& out) const;

  int64_t outputs_, inputs_;
  std::shared_ptr<Block> block_;       // the numbers, where they stay,
  std::unique_ptr<int8_t[]> passing_;  // or do not: the pool would keep the memory of the largest weight for good
  std::vector<float> scales_;
};

}  // namespace molt

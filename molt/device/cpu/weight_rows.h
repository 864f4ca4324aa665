// A weight as it lies, row by row, once for both directions: in f32, in bf16, or rounded to 8 bits, W[o,i] ≈ s_o ·
// q[o,i] with whole numbers |q| <= 127 and s_o = max_i |W[o,i]| / 127. Its products are for processors whose f32
// products want no other layout and which have none of narrower numbers: narrow rows are widened piece by piece on the
// way, at a cost that is lost beside the product's. Private to the device room.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "molt/device/cpu/scratch.h"
#include "molt/device/matrix.h"
#include "molt/device/memory.h"

namespace molt {

class WeightRows {
 public:
  /// Keeps W (O,I), of any floating type and row stride, as `kept`: f32, bf16, or i8, rounded to nearest. In 8 bits a
  /// row that holds what is not finite is NaN whole. `lasting`: a model's weight, not a stage on the way to another
  /// layout.
  WeightRows(const ConstMatrix& weight, Dtype kept, bool lasting);
  /// Other values of the same shape, in the same memory.
  void set(const ConstMatrix& weight);

  int64_t outputs() const { return outputs_; }
  int64_t inputs() const { return inputs_; }
  Dtype kept() const { return kept_; }
  const void* data() const { return block_ ? block_->data() : passing_.get(); }
  /// The factors of rows of 8 bits.
  const float* scales() const { return scales_.data(); }
  size_t bytes() const {
    return static_cast<size_t>(outputs_ * inputs_) * dtype_size(kept_) + scales_.size() * sizeof(float);
  }
  template <class Out>
  void read_row(int64_t row, Out* out) const {
    if (kept_ == Dtype::kI8)
      read_as<int8_t>(row, scales_[static_cast<size_t>(row)], out);
    else if (kept_ == Dtype::kBf16)
      read_as<bf16>(row, 1, out);
    else
      read_as<float>(row, 1, out);
  }

  /// y (T,O) = x (T,I) · Wᵀ + bias, or y += …; x and y f32 or bf16 with any row stride, operands and sums f32.
  void forward(const ConstMatrix& x, const Matrix& y, const float* bias, bool accumulate) const;
  /// dx (T,I) = dy (T,O) · W, or dx += … .
  void backward(const ConstMatrix& dy, const Matrix& dx, bool accumulate) const;

 private:
  template <class Kept, class Out>
  void read_as(int64_t row, float scale, Out* out) const {
    const Kept* const from = static_cast<const Kept*>(data()) + row * inputs_;
    for (int64_t i = 0; i < inputs_; ++i) out[i] = static_cast<Out>(scale * static_cast<float>(from[i]));
  }
  ConstMatrix whole() const { return {data(), outputs_, inputs_, inputs_, kept_}; }
  /// A part of W in f32, in the memory of `wide`.
  ConstMatrix part(int64_t row, int64_t rows, int64_t col, int64_t cols, const Scratch& wide) const;
  /// Without bias, in f32; for few rows W is read as it is, for many it is widened.
  void forward_few(const ConstMatrix& x, const Matrix& y, bool accumulate) const;
  void forward_many(const ConstMatrix& x, const Matrix& y, bool accumulate) const;

  int64_t outputs_, inputs_;
  Dtype kept_;
  std::shared_ptr<Block> block_;     // the numbers, where they stay,
  std::unique_ptr<char[]> passing_;  // or do not: the pool would keep the memory of the largest weight for good
  std::vector<float> scales_;
};

}  // namespace molt

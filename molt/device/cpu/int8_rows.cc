#include "molt/device/cpu/int8_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "molt/device/convert.h"
#include "molt/device/cpu/gemm_skinny.h"
#include "molt/device/cpu/parallel.h"
#include "molt/device/cpu/scratch.h"
#include "molt/device/gemm.h"
#include "molt/device/lasting_memory.h"

namespace molt {

namespace {
/// Rows of W that are widened at a time, and rows of x up to which W is read as it is instead.
constexpr int64_t kPiece = 512, kFewRows = 8;
}  // namespace

Int8Rows::Int8Rows(const ConstMatrix& weight, bool lasting)
    : outputs_(weight.rows), inputs_(weight.cols), scales_(static_cast<size_t>(weight.rows)) {
  const auto bytes = static_cast<size_t>(outputs_ * inputs_);
  if (lasting)
    block_ = allocate_lasting(bytes);
  else
    passing_.reset(new int8_t[bytes]);
  int8_t* const q = lasting ? static_cast<int8_t*>(block_->data()) : passing_.get();
  parallel_ranges(outputs_, (1 << 15) / inputs_ + 1, [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(inputs_));
    for (int64_t o = begin; o < end; ++o) {
      convert(weight.row_range(o, 1), matrix_of(row.data(), 1, inputs_));
      float most = 0;
      bool finite = true;
      for (const float v : row) most = std::max(most, std::abs(v)), finite = finite && std::isfinite(v);
      const float scale = most / 127, inverse = most < 0x1p-100f ? 0 : 127 / most;
      scales_[static_cast<size_t>(o)] = finite ? scale : std::numeric_limits<float>::quiet_NaN();
      for (int64_t i = 0; i < inputs_; ++i)
        q[o * inputs_ + i] =
            finite ? static_cast<int8_t>(std::lrint(row[static_cast<size_t>(i)] * inverse)) : int8_t{1};
    }
  });
}

void Int8Rows::widen(int64_t begin, const Matrix& out) const {
  parallel_ranges(out.rows, (1 << 15) / inputs_ + 1, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const int8_t* from = data() + (begin + r) * inputs_;
      const float scale = scales_[static_cast<size_t>(begin + r)];
      if (out.dtype == Dtype::kF32) {
        float* to = static_cast<float*>(out.data) + r * out.ld;
        for (int64_t i = 0; i < inputs_; ++i) to[i] = scale * static_cast<float>(from[i]);
      } else {  // whole numbers up to 127 are bf16 numbers; their factors are taken into account elsewhere
        bf16* to = static_cast<bf16*>(out.data) + r * out.ld;
        for (int64_t i = 0; i < inputs_; ++i) to[i] = bf16(static_cast<float>(from[i]));
      }
    }
  });
}

namespace {

/// x in type `wide`, dense, its columns times their factors where there are any.
Scratch operand(const ConstMatrix& x, const float* factors, Dtype wide) {
  Scratch dense(x.rows, x.cols, wide);
  if (!factors) {
    convert(x, dense.view);
    return dense;
  }
  const Scratch scaled(x.rows, x.cols, Dtype::kF32);
  convert(x, scaled.view);
  auto* const values = static_cast<float*>(scaled.view.data);
  parallel_ranges(x.rows, (1 << 15) / x.cols + 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t k = 0; k < x.cols; ++k) values[t * x.cols + k] *= factors[k];
  });
  convert(scaled.view, dense.view);
  return dense;
}

}  // namespace

void Int8Rows::forward(const ConstMatrix& x, const Matrix& y, const float* bias, bool accumulate, Dtype wide) const {
  const bool few = x.rows <= kFewRows;
  const bool unscaled = few || wide == Dtype::kBf16;
  const Scratch in = operand(x, nullptr, few ? Dtype::kF32 : wide);
  const Scratch sums(y.rows, outputs_, Dtype::kF32);
  auto* const out = static_cast<float*>(sums.view.data);
  if (few) {
    skinny::run(skinny::Dot{.m = outputs_,
                            .n = x.rows,
                            .k = inputs_,
                            .a = data(),
                            .lda = inputs_,
                            .b = in.view.data,
                            .ldb = inputs_,
                            .c = out,
                            .c_row = 1,
                            .c_col = outputs_,
                            .a_dtype = Dtype::kI8});
  } else {
    const Scratch piece(std::min(kPiece, outputs_), inputs_, wide);
    for (int64_t o = 0; o < outputs_; o += kPiece) {
      const Matrix rows = piece.view.row_range(0, std::min(kPiece, outputs_ - o));
      widen(o, rows);
      gemm({.a = in.view, .b = rows, .c = {out + o, y.rows, rows.rows, outputs_, Dtype::kF32}, .trans_b = true});
    }
  }
  parallel_ranges(y.rows, (1 << 15) / outputs_ + 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t o = 0; o < outputs_; ++o) {
        float& v = out[t * outputs_ + o];
        if (unscaled) v *= scales_[static_cast<size_t>(o)];
        if (bias) v += bias[o];
      }
  });
  accumulate ? convert_add(sums.view, y) : convert(sums.view, y);
}

void Int8Rows::backward(const ConstMatrix& dy, const Matrix& dx, bool accumulate, Dtype wide) const {
  const Scratch in = operand(dy, wide == Dtype::kBf16 ? scales() : nullptr, wide);
  const Scratch sums(dx.rows, inputs_, Dtype::kF32), piece(std::min(kPiece, outputs_), inputs_, wide);
  for (int64_t o = 0; o < outputs_; o += kPiece) {
    const Matrix rows = piece.view.row_range(0, std::min(kPiece, outputs_ - o));
    widen(o, rows);
    gemm({.a = ConstMatrix(in.view).col_range(o, rows.rows), .b = rows, .c = sums.view, .beta = o > 0 ? 1.0 : 0.0});
  }
  accumulate ? convert_add(sums.view, dx) : convert(sums.view, dx);
}

}  // namespace molt

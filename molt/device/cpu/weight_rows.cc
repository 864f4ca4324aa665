#include "molt/device/cpu/weight_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "molt/device/convert.h"
#include "molt/device/cpu/gemm_skinny.h"
#include "molt/device/cpu/parallel.h"
#include "molt/device/cpu/scratch.h"
#include "molt/device/gemm.h"
#include "molt/device/lasting_memory.h"

#include "molt/device/cpu/simd.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "molt/device/cpu/weight_rows.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace molt::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

/// to = scale · from, n numbers.
void widen_row(const int8_t* from, float scale, float* to, int64_t n) {
  const hn::ScalableTag<float> d;
  const hn::Rebind<int8_t, decltype(d)> bytes;
  const hn::RebindToSigned<decltype(d)> words;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto factor = hn::Set(d, scale);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::Mul(factor, hn::ConvertTo(d, hn::PromoteTo(words, hn::LoadU(bytes, from + i)))), d, to + i);
  for (; i < n; ++i) to[i] = scale * static_cast<float>(from[i]);
}

}  // namespace
}  // namespace molt::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace molt {
namespace {
HWY_EXPORT(widen_row);

/// Numbers widened at a time, which in f32 mostly stay in the second-level cache; but rows enough for a product by
/// oneDNN.
constexpr int64_t kPiece = 96 << 10, kPieceRows = 128;

int64_t piece_rows(int64_t columns) { return std::max(kPiece / columns / 16 * 16, kPieceRows); }

/// Columns of a result below which threads share its rows instead, and each widens all of W.
constexpr int64_t kFewColumns = 64;
/// Rows of x up to which W is read as it is.
constexpr int64_t kFewRows = 64;

int64_t grain(int64_t row) { return (1 << 15) / row + 1; }

/// q and its factor from a row of W.
void round_row(const std::vector<float>& row, int8_t* q, float& scale) {
  float most = 0;
  bool finite = true;
  for (const float v : row) most = std::max(most, std::abs(v)), finite = finite && std::isfinite(v);
  const float inverse = most < 0x1p-100f ? 0 : 127 / most;
  scale = finite ? most / 127 : std::numeric_limits<float>::quiet_NaN();
  for (size_t i = 0; i < row.size(); ++i) q[i] = finite ? static_cast<int8_t>(std::lrint(row[i] * inverse)) : int8_t{1};
}

/// m in f32; `keep` owns the copy where one is made.
ConstMatrix as_f32(const ConstMatrix& m, std::optional<Scratch>& keep) {
  if (m.dtype == Dtype::kF32) return m;
  keep.emplace(m.rows, m.cols, Dtype::kF32);
  convert(m, keep->view);
  return keep->view;
}

/// write(sums, accumulate) fills f32 rows for y: y itself where it is such.
template <class Write>
void in_f32(const Matrix& y, bool accumulate, Write&& write) {
  if (y.dtype == Dtype::kF32) return write(y, accumulate);
  const Scratch sums(y.rows, y.cols, Dtype::kF32);
  write(sums.view, false);
  accumulate ? convert_add(sums.view, y) : convert(sums.view, y);
}

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

/// f(rows, columns) for each thread's part of a result (T,N); a part is a view of it all.
template <class F>
void share(int64_t rows, int64_t columns, F&& f) {
  if (columns / thread_count() >= kFewColumns)
    parallel_ranges(columns, kFewColumns, [&](int64_t begin, int64_t end) { f(Range{0, rows}, Range{begin, end}); });
  else
    parallel_ranges(rows, kFewColumns, [&](int64_t begin, int64_t end) { f(Range{begin, end}, Range{0, columns}); });
}

}  // namespace

WeightRows::WeightRows(const ConstMatrix& weight, Dtype kept, bool lasting)
    : outputs_(weight.rows), inputs_(weight.cols), kept_(kept) {
  const size_t bytes = static_cast<size_t>(outputs_ * inputs_) * dtype_size(kept_);
  lasting ? void(block_ = allocate_lasting(bytes)) : passing_.reset(new char[bytes]);
  if (kept_ == Dtype::kI8) scales_.resize(static_cast<size_t>(outputs_));
  set(weight);
}

void WeightRows::set(const ConstMatrix& weight) {
  void* const to = block_ ? block_->data() : passing_.get();
  if (kept_ != Dtype::kI8) return convert(weight, {to, outputs_, inputs_, inputs_, kept_});
  parallel_ranges(outputs_, grain(inputs_), [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(inputs_));
    for (int64_t o = begin; o < end; ++o) {
      convert(weight.row_range(o, 1), matrix_of(row.data(), 1, inputs_));
      round_row(row, static_cast<int8_t*>(to) + o * inputs_, scales_[static_cast<size_t>(o)]);
    }
  });
}

ConstMatrix WeightRows::part(int64_t row, int64_t rows, int64_t col, int64_t cols, const Scratch& wide) const {
  const ConstMatrix narrow = whole().row_range(row, rows).col_range(col, cols);
  const Matrix to{wide.view.data, rows, cols, cols, Dtype::kF32};
  if (kept_ == Dtype::kBf16) {
    convert(narrow, to);
    return to;
  }
  static const auto widen = MOLT_BEST_TARGET(widen_row);
  for (int64_t r = 0; r < rows; ++r)
    (*widen)(static_cast<const int8_t*>(narrow.data) + r * inputs_, scales_[static_cast<size_t>(row + r)],
             static_cast<float*>(to.data) + r * cols, cols);
  return to;
}

void WeightRows::forward(const ConstMatrix& x, const Matrix& y, const float* bias, bool accumulate) const {
  std::optional<Scratch> keep;
  const ConstMatrix in = as_f32(x, keep);
  in_f32(y, accumulate, [&](const Matrix& sums, bool add) {
    if (in.rows <= kFewRows)
      forward_few(in, sums, add);
    else
      forward_many(in, sums, add);
    if (!bias) return;
    parallel_for(sums.rows, grain(outputs_), [&](int64_t t) {
      float* const row = static_cast<float*>(sums.data) + t * sums.ld;
      for (int64_t o = 0; o < outputs_; ++o) row[o] += bias[o];
    });
  });
}

void WeightRows::forward_many(const ConstMatrix& x, const Matrix& y, bool accumulate) const {
  const double beta = accumulate ? 1 : 0;
  if (kept_ == Dtype::kF32) return gemm({.a = x, .b = whole(), .c = y, .trans_b = true, .beta = beta});
  share(x.rows, outputs_, [&](Range rows, Range outputs) {
    const int64_t step = std::min(piece_rows(inputs_), outputs.size());
    const Scratch wide(step, inputs_, Dtype::kF32);
    for (int64_t o = outputs.begin; o < outputs.end; o += step) {
      const int64_t n = std::min(step, outputs.end - o);
      gemm({.a = x.row_range(rows.begin, rows.size()),
            .b = part(o, n, 0, inputs_, wide),
            .c = y.row_range(rows.begin, rows.size()).col_range(o, n),
            .trans_b = true,
            .beta = beta});
    }
  });
}

void WeightRows::forward_few(const ConstMatrix& x, const Matrix& y, bool accumulate) const {
  const bool scaled = kept_ == Dtype::kI8;
  if (scaled && accumulate) {
    const Scratch sums(y.rows, outputs_, Dtype::kF32);
    forward_few(x, sums.view, false);
    return convert_add(sums.view, y);
  }
  auto* const out = static_cast<float*>(y.data);
  skinny::run(skinny::Dot{.m = outputs_,
                          .n = x.rows,
                          .k = inputs_,
                          .a = data(),
                          .lda = inputs_,
                          .b = x.data,
                          .ldb = x.ld,
                          .c = out,
                          .c_row = 1,
                          .c_col = y.ld,
                          .beta = accumulate ? 1.0 : 0.0,
                          .a_dtype = kept_});
  if (!scaled) return;
  for (int64_t t = 0; t < y.rows; ++t)
    for (int64_t o = 0; o < outputs_; ++o) out[t * y.ld + o] *= scales_[static_cast<size_t>(o)];
}

void WeightRows::backward(const ConstMatrix& dy, const Matrix& dx, bool accumulate) const {
  std::optional<Scratch> keep;
  const ConstMatrix in = as_f32(dy, keep);
  in_f32(dx, accumulate, [&](const Matrix& sums, bool add) {
    if (kept_ == Dtype::kF32) return gemm({.a = in, .b = whole(), .c = sums, .beta = add ? 1.0 : 0.0});
    share(in.rows, inputs_, [&](Range rows, Range inputs) {
      const int64_t step = std::min(piece_rows(inputs.size()), outputs_);
      const Scratch wide(step, inputs.size(), Dtype::kF32);
      for (int64_t o = 0; o < outputs_; o += step) {
        const int64_t n = std::min(step, outputs_ - o);
        gemm({.a = in.row_range(rows.begin, rows.size()).col_range(o, n),
              .b = part(o, n, inputs.begin, inputs.size(), wide),
              .c = sums.row_range(rows.begin, rows.size()).col_range(inputs.begin, inputs.size()),
              .beta = o > 0 || add ? 1.0 : 0.0});
      }
    });
  });
}

}  // namespace molt
#endif

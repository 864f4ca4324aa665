// Activations are packed into tiles once per direction and serve every product they stand in; the low-rank part enters
// the frozen product as a few more terms of its sums.
#include "molt/device/low_rank_product.h"

#include "molt/device/convert.h"
#include "molt/device/cpu/scratch.h"
#include "molt/device/cpu/tile_gemm.h"

namespace molt {
namespace {

constexpr int64_t kMaxRank = 64;

/// factor · m as panels: the factor (K,N) = mᵀ where `transposed`, else m. With `at` and `size`, m stands at rows
/// `at` of a taller matrix of zeros.
tiles::Panels panels_of(const ConstMatrix& m, double factor, bool transposed, int64_t at, int64_t size) {
  const Scratch narrow(size, m.cols, Dtype::kBf16);
  bf16* to = static_cast<bf16*>(narrow.view.data);
  std::fill_n(to, at * m.cols, bf16());
  std::fill_n(to + (at + m.rows) * m.cols, (size - at - m.rows) * m.cols, bf16());
  if (factor == 1) {
    convert(m, narrow.view.row_range(at, m.rows));
  } else {
    for (int64_t r = 0; r < m.rows; ++r)
      for (int64_t c = 0; c < m.cols; ++c)
        to[(at + r) * m.cols + c] = bf16(static_cast<float>(factor) * static_cast<const float*>(m.data)[r * m.ld + c]);
  }
  tiles::Panels panels(transposed ? m.cols : size, transposed ? size : m.cols);
  panels.pack(to, transposed, m.cols);
  return panels;
}

/// y = x · panels with what options add; `rows` is x packed as bf16.
void multiply(const tiles::Panels& panels, const ConstMatrix& x, const tiles::Rows& rows, const Matrix& y,
              const tiles::RunOptions& options) {
  panels.format() == tiles::Format::kBf16 ? panels.run(rows, y, options) : panels.run(x, y, options);
}

}  // namespace

struct LowRankProduct::Kept {
  tiles::Rows x;
  Scratch u;  // (T, R) f32
};

LowRankProduct::LowRankProduct() = default;
LowRankProduct::~LowRankProduct() = default;
LowRankProduct::LowRankProduct(LowRankProduct&&) noexcept = default;
LowRankProduct& LowRankProduct::operator=(LowRankProduct&&) noexcept = default;

bool LowRankProduct::available(const PackedMatrix& weight, int64_t rank) {
  return rank >= 1 && rank <= kMaxRank && weight.panels(true) && weight.panels(false);
}

void LowRankProduct::forward(const PackedMatrix& weight, const ConstMatrix& x, const float* bias,
                             const LowRankFactors& f, const Matrix& y, bool keep) {
  remember(x, f);
  const tiles::Rows more_rows = tiles::Rows::pack(kept_->u.view);
  const tiles::Panels more = panels_of(f.B, f.scale, true, f.begin, weight.outputs());
  multiply(*weight.panels(true), x, kept_->x, y, {.bias = bias, .more_rows = &more_rows, .more_panels = &more});
  if (!keep) kept_.reset();
}

void LowRankProduct::remember(const ConstMatrix& x, const LowRankFactors& f) {
  kept_.reset(new Kept{tiles::Rows::pack(x), Scratch(x.rows, f.A.rows, Dtype::kF32)});
  panels_of(f.A, 1, true, 0, f.A.rows).run(kept_->x, kept_->u.view);
}

void LowRankProduct::backward(const PackedMatrix& weight, const ConstMatrix& dy, const LowRankFactors& f,
                              const Target& dx, const Target& dA, const Target& dB) const {
  MOLT_CHECK(kept_, "low_rank_product: backward without a forward that kept what it needs");
  const tiles::Rows rows = tiles::Rows::pack(dy);
  const Scratch du(dy.rows, f.B.cols, Dtype::kF32);
  panels_of(f.B, f.scale, false, f.begin, weight.outputs()).run(rows, du.view);
  if (dB.matrix.data) {
    if (f.B.rows == weight.outputs()) {
      tiles::multiply_transposed(rows, kept_->u.view, f.scale, false, dB.matrix, dB.accumulate);
    } else {
      const Scratch all(weight.outputs(), f.B.cols, Dtype::kF32);
      tiles::multiply_transposed(rows, kept_->u.view, f.scale, false, all.view, false);
      const ConstMatrix part = ConstMatrix(all.view).row_range(f.begin, f.B.rows);
      dB.accumulate ? convert_add(part, dB.matrix) : convert(part, dB.matrix);
    }
  }
  if (dA.matrix.data) tiles::multiply_transposed(kept_->x, du.view, 1, true, dA.matrix, dA.accumulate);
  if (dx.matrix.data) {
    const tiles::Rows more_rows = tiles::Rows::pack(du.view);
    const tiles::Panels more = panels_of(f.A, 1, false, 0, f.A.rows);
    multiply(*weight.panels(false), dy, rows, dx.matrix,
             {.accumulate = dx.accumulate, .more_rows = &more_rows, .more_panels = &more});
  }
}

}  // namespace molt

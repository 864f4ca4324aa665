// Activations are packed into tiles once per direction and serve every product they stand in; the low-rank part enters
// the frozen product as a few more terms of its sums.
#include "molt/device/low_rank_product.h"

#include "molt/device/convert.h"
#include "molt/device/cpu/amx_gemm.h"
#include "molt/device/cpu/scratch.h"

namespace molt {
namespace {

constexpr int64_t kMaxRank = 64;

/// factor · m as panels: the factor (K,N) = mᵀ where `transposed`, else m. With `at` and `size`, m stands at rows
/// `at` of a taller matrix of zeros.
amx::Panels panels_of(const ConstMatrix& m, double factor, bool transposed, int64_t at, int64_t size) {
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
  amx::Panels panels(transposed ? m.cols : size, transposed ? size : m.cols);
  panels.pack(to, transposed, m.cols);
  return panels;
}

/// y = x · panels with what options add; `rows` is x packed as bf16.
void multiply(const amx::Panels& panels, const ConstMatrix& x, const amx::Rows& rows, const Matrix& y,
              const amx::RunOptions& options) {
  panels.format() == amx::Format::kBf16 ? panels.run(rows, y, options) : panels.run(x, y, options);
}

}  // namespace

struct LowRankProduct::Kept {
  amx::Rows x;
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
  const amx::Rows more_rows = amx::Rows::pack(kept_->u.view);
  const amx::Panels more = panels_of(f.B, f.scale, true, f.begin, weight.outputs());
  multiply(*weight.panels(true), x, kept_->x, y, {.bias = bias, .more_rows = &more_rows, .more_panels = &more});
  if (!keep) kept_.reset();
}

void LowRankProduct::remember(const ConstMatrix& x, const LowRankFactors& f) {
  kept_.reset(new Kept{amx::Rows::pack(x), Scratch(x.rows, f.A.rows, Dtype::kF32)});
  panels_of(f.A, 1, true, 0, f.A.rows).run(kept_->x, kept_->u.view);
}

void LowRankProduct::backward(const PackedMatrix& weight, const ConstMatrix& dy, const LowRankFactors& f,
                              const Target& dx, const Target& dA, const Target& dB) const {
  MOLT_CHECK(kept_, "low_rank_product: backward without a forward that kept what it needs");
  const amx::Rows rows = amx::Rows::pack(dy);
  const Scratch du(dy.rows, f.B.cols, Dtype::kF32);
  panels_of(f.B, f.scale, false, f.begin, weight.outputs()).run(rows, du.view);
  if (dB.matrix.data) {
    if (f.B.rows == weight.outputs()) {
      amx::multiply_transposed(rows, kept_->u.view, f.scale, false, dB.matrix, dB.accumulate);
    } else {
      const Scratch all(weight.outputs(), f.B.cols, Dtype::kF32);
      amx::multiply_transposed(rows, kept_->u.view, f.scale, false, all.view, false);
      const ConstMatrix part = ConstMatrix(all.view).row_range(f.begin, f.B.rows);
      dB.accumulate ? convert_add(part, dB.matrix) : convert(part, dB.matrix);
    }
  }
  if (dA.matrix.data) amx::multiply_transposed(kept_->x, du.view, 1, true, dA.matrix, dA.accumulate);
  if (dx.matrix.data) {
    const amx::Rows more_rows = amx::Rows::pack(du.view);
    const amx::Panels more = panels_of(f.A, 1, false, 0, f.A.rows);
    multiply(*weight.panels(false), dy, rows, dx.matrix,
             {.accumulate = dx.accumulate, .more_rows = &more_rows, .more_panels = &more});
  }
}

}  // namespace molt

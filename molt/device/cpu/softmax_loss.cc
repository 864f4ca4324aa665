// Each thread has rows of its own or, where they are few, outputs of its own: it then reads a part of the weight
// instead of all of it, and what the parts have found is joined. With m_t a reference near the largest logit so far, it
// keeps s_t = Σ exp(l − m_t) and g_t = Σ exp(l − m_t) · W_v; where a logit outgrows the reference, both are scaled
// once. At the end
//   loss_t = log s_t + m_t − l_label    and    dx_t = g_t / s_t − W_label.
#include "molt/device/softmax_loss.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "molt/device/cpu/parallel.h"
#include "molt/device/cpu/scratch.h"
#include "molt/device/cpu/tile_gemm.h"

#include <hwy/detect_compiler_arch.h>

namespace molt {

bool softmax_loss_available(const PackedMatrix& weight, bool gradient) {
  // Where bf16 is widened, weights of 8 bits multiply more than twice as fast as they are (logits in f32).
  if (weight.int8() && !tiles::unit_available() && !tiles::pairs_are_fast()) return false;
  return weight.panels(true) && (!gradient || weight.panels(false));
}

}  // namespace molt

#if HWY_ARCH_X86

#include <immintrin.h>

#include "molt/device/cpu/amx_begin-inl.h"
#include "molt/device/cpu/tile_blocks-inl.h"

namespace molt::tiles {
namespace {

constexpr int64_t kChunk = 16;  // panels of 32 outputs at a time
constexpr int64_t kGroup = 16;  // blocks of 32 rows at a time
constexpr int64_t kRun = 12;    // tiles along D at a time: weights then stay in the first-level cache
constexpr int64_t kFew = 8;     // blocks of rows up to which outputs are shared out …
constexpr int64_t kParts = 8;   // … in as many parts, however many threads there are
constexpr float kFar = 16;      // how far a logit may outgrow the reference before it is moved

/// Cache lines of a panel of weights for each step of bf16.
int64_t lines_of(const Panels& weights) { return weights.digits() ? 16 : 32; }

/// e^x to about one unit in the last place; 0 far below, NaN stays.
inline __m512 exponential(__m512 x) {
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 p = _mm512_set1_ps(1.0f / 720);
  for (const float c : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
  return _mm512_scalef_ps(p, n);
}

/// The highest bytes of two vectors of words as pairs of bf16.
inline __m512i wide_pair(__m512i first, __m512i second) {
  const __m512i low = _mm512_castps_si512(_mm512_cvtepi32_ps(_mm512_srai_epi32(first, 24)));
  const __m512i high = _mm512_castps_si512(_mm512_cvtepi32_ps(_mm512_srai_epi32(second, 24)));
  return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(low, 16), high);
}

/// Tiles of 8-bit integers (64 along K) as twice as many of bf16, without their factors: whole numbers up to 127 are
/// bf16 numbers.
inline void widen_tiles(const bf16* tiles, int64_t steps, bf16* out) {
  for (int64_t s = 0; s < steps; ++s)
    for (int64_t half = 0; half < 2; ++half, tiles += kTile)
      for (int64_t i = 0; i < 16; ++i) {
        const __m512i four = _mm512_load_si512(tiles + i * 32);
        bf16* to = out + ((s * 2 + i / 8) * 2 + half) * kTile + i % 8 * 64;
        _mm512_store_si512(to, wide_pair(_mm512_slli_epi32(four, 24), _mm512_slli_epi32(four, 16)));
        _mm512_store_si512(to + 32, wide_pair(_mm512_slli_epi32(four, 8), four));
      }
}

class Share {
 public:
  Share(const Panels& forward, const Panels* backward, const Rows& x, const std::vector<int32_t>& labels,
        const Matrix& dx, std::vector<double>& losses)
      : forward_(forward), backward_(backward), x_(x), labels_(labels), dx_(dx), losses_(losses) {}

  /// Blocks of rows [begin, end) over all outputs: their losses and gradients.
  void run(int64_t begin, int64_t end) {
    walk(begin, end, 0, panels());
    for (int64_t t = begin * 32; t < std::min(end * 32, x_.rows()); ++t) finish(t);
  }

  /// Part `part` of `parts` of the outputs for all rows; to be joined.
  void run_part(int64_t part, int64_t parts) {
    const int64_t chunks = (panels() + kChunk - 1) / kChunk;
    walk(0, x_.row_blocks(), chunks * part / parts * kChunk, std::min(panels(), chunks * (part + 1) / parts * kChunk));
  }

  /// Takes in what another part has found of row t.
  void join(int64_t t, const Share& other) {
    const auto at = static_cast<size_t>(t);
    const float highest = std::max(reference_[at], other.reference_[at]);
    const auto factor = [&](const Share& s) {
      return std::exp(static_cast<double>(s.reference_[at]) - static_cast<double>(highest));
    };
    const double mine = factor(*this), theirs = factor(other);
    reference_[at] = highest;
    total_[at] = total_[at] * mine + other.total_[at] * theirs;
    label_logit_[at] += other.label_logit_[at];
    const __m512 f = _mm512_set1_ps(static_cast<float>(mine)), g = _mm512_set1_ps(static_cast<float>(theirs));
    for (int64_t q = 0; q < dx_panels_; ++q) {
      float* to = gradient_row(t, q);
      const float* from = other.gradient_row(t, q);
      for (int64_t i = 0; i < 32; i += 16)
        _mm512_store_ps(to + i, _mm512_fmadd_ps(_mm512_load_ps(from + i), g, _mm512_mul_ps(_mm512_load_ps(to + i), f)));
    }
  }

  /// Loss and gradient of row t from its sums.
  void finish(int64_t t) {
    const int64_t mine = t - first_ * 32;
    const auto at = static_cast<size_t>(mine);
    const double total = total_[at];
    losses_[static_cast<size_t>(t)] =
        std::log(total) + static_cast<double>(reference_[at]) - static_cast<double>(label_logit_[at]);
    if (!backward_) return;
    const int64_t label = labels_[static_cast<size_t>(t)];
    const float scale = static_cast<float>(1 / total);
    float* to = static_cast<float*>(dx_.data) + t * dx_.ld;
    for (int64_t d = 0; d < dx_.cols; ++d) to[d] = scale * gradient_row(mine, d / 32)[d % 32] - forward_.at(d, label);
  }

 private:
  int64_t panels() const { return (forward_.n() + 31) / 32; }

  /// Sums over the outputs of panels [first_panel, last_panel).
  void walk(int64_t begin, int64_t end, int64_t first_panel, int64_t last_panel) {
    first_ = begin;
    const int64_t rows = (end - begin) * 32;
    const auto sums = static_cast<size_t>(std::min(kGroup, end - begin) * kChunk * kBlock);
    dx_panels_ = backward_ ? (backward_->n() + 31) / 32 : 0;
    const auto chunk = Block::allocate(Device::kCpu, sums * 4 + sums * 2);
    logits_ = static_cast<float*>(chunk->data());
    exps_ = reinterpret_cast<bf16*>(logits_ + sums);
    memory_ = Block::allocate(Device::kCpu, static_cast<size_t>((end - begin) * dx_panels_ * kBlock) * 4);
    gradient_ = static_cast<float*>(memory_->data());
    const int64_t most = std::max(forward_.steps(), kChunk);
    if (forward_.digits() || (backward_ && backward_->digits()))
      wide_ = Block::allocate(Device::kCpu, static_cast<size_t>(most * 4 * kTile) * sizeof(bf16));
    reference_.assign(static_cast<size_t>(rows), -std::numeric_limits<float>::infinity());
    label_logit_.assign(static_cast<size_t>(rows), 0);
    total_.assign(static_cast<size_t>(rows), 0);
    std::fill_n(gradient_, (end - begin) * dx_panels_ * kBlock, 0.0f);
    begin_tiles();
    for (int64_t p = first_panel; p < last_panel; p += kChunk) {
      const int64_t count = std::min(kChunk, last_panel - p);
      for (int64_t r = begin; r < end; r += kGroup) {
        const int64_t group_end = std::min(r + kGroup, end);
        logits(p, count, r, group_end);
        for (int64_t i = r; i < group_end; ++i) exponentials(p, count, i, i - r);
        if (backward_) multiply_back(p, count, r, group_end);
      }
    }
    end_tiles();
  }

  /// `steps` steps of one panel of weights from `first` on, as bf16.
  const bf16* panel_tiles(const Panels& weights, int64_t panel, int64_t first, int64_t steps) const {
    const bf16* tiles = weights.data() + panel * weights.steps() * 2 * kTile;
    if (weights.digits() == 0) return tiles + first * 2 * kTile;
    bf16* const wide = static_cast<bf16*>(wide_->data());
    widen_tiles(tiles + first / 2 * 2 * kTile, (steps + 1) / 2, wide);
    return wide;
  }

  template <int kRows>
  void logits_block(const bf16* rows, const bf16* weights, int64_t steps, bool fresh, float* to, const char*& next,
                    int64_t lines) {
    multiply_block<kRows, 2>(to, fresh, {rows, weights, steps}, {}, next, lines);
  }

  /// The logits of some panels for a group of blocks of rows, block by block.
  void logits(int64_t p0, int64_t count, int64_t r0, int64_t r1) {
    const int64_t steps = x_.steps();
    for (int64_t p = 0; p < count; ++p) {
      const bf16* weights = panel_tiles(forward_, p0 + p, 0, steps);
      const char* next = reinterpret_cast<const char*>(forward_.data() + (p0 + p + 1) * forward_.steps() * 2 * kTile);
      const int64_t lines = (p0 + p + 1) * 32 < forward_.n() ? lines_of(forward_) / (r1 - r0) : 0;
      for (int64_t part = 0; part < x_.parts(); ++part) {
        const int64_t base = x_.part_begin(part), end = x_.part_begin(part + 1);
        for (int64_t step = base; step < end; step += kRun) {
          const int64_t run = std::min(kRun, end - step);
          for (int64_t r = r0; r < r1; ++r) {
            float* to = logits_ + ((r - r0) * kChunk + p) * kBlock;
            const bf16* rows = x_.at(part, r) + (step - base) * x_.tiles(r) * kTile;
            const bf16* from = weights + step * 2 * kTile;
            x_.tiles(r) == 1 ? logits_block<1>(rows, from, run, step == 0, to, next, lines)
                             : logits_block<2>(rows, from, run, step == 0, to, next, lines);
          }
        }
      }
    }
  }

  /// exp(l − m) of one block of rows, as the rows of the product back; sums, references and the labels' logits.
  void exponentials(int64_t p0, int64_t count, int64_t r, int64_t slot) {
    const int64_t tiles = x_.tiles(r), live = std::min<int64_t>(tiles * 16, x_.rows() - r * 32);
    bf16* const out = exps_ + slot * kChunk * kBlock;
    for (int64_t i = live; i < tiles * 16; ++i)
      for (int64_t p = 0; p < count; ++p)
        _mm512_store_si512(out + (p * tiles + i / 16) * kTile + i % 16 * 32, _mm512_setzero_si512());
    // The last panel may end early: what is beyond counts as minus infinity.
    const int64_t rest = forward_.n() - (p0 + count - 1) * 32;
    const uint32_t mask = rest >= 32 ? ~uint32_t{0} : (uint32_t{1} << rest) - 1;
    const float* const factors = forward_.column_scales() ? forward_.column_scales() + p0 * 32 : nullptr;
    const float* const back = backward_ && backward_->row_scales() ? backward_->row_scales() + p0 * 32 : nullptr;
    for (int64_t i = 0; i < live; ++i) {
      const auto t = static_cast<size_t>((r - first_) * 32 + i);
      float* const from = logits_ + slot * kChunk * kBlock + i * 32;
      if (factors)
        for (int64_t p = 0; p < count; ++p)
          for (int64_t h = 0; h < 32; h += 16)
            _mm512_store_ps(from + p * kBlock + h, _mm512_mul_ps(_mm512_load_ps(from + p * kBlock + h),
                                                                 _mm512_loadu_ps(factors + p * 32 + h)));
      const int64_t label = labels_[static_cast<size_t>(r * 32 + i)] - p0 * 32;
      if (label >= 0 && label < count * 32) label_logit_[t] = from[label / 32 * kBlock + label % 32];
      const __m512 lowest = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
      __m512 high = lowest;
      for (int64_t p = 0; p + 1 < count; ++p)
        high = _mm512_max_ps(high,
                             _mm512_max_ps(_mm512_load_ps(from + p * kBlock), _mm512_load_ps(from + p * kBlock + 16)));
      const float* end = from + (count - 1) * kBlock;
      const auto low_mask = static_cast<__mmask16>(mask), high_mask = static_cast<__mmask16>(mask >> 16);
      high = _mm512_max_ps(high, _mm512_mask_loadu_ps(lowest, low_mask, end));
      high = _mm512_max_ps(high, _mm512_mask_loadu_ps(lowest, high_mask, end + 16));
      move_reference(t, _mm512_reduce_max_ps(high));
      const __m512 m = _mm512_set1_ps(reference_[t]);
      __m512 sum = _mm512_setzero_ps();
      for (int64_t p = 0; p < count; ++p) {
        __m512 a = exponential(_mm512_sub_ps(_mm512_load_ps(from + p * kBlock), m));
        __m512 b = exponential(_mm512_sub_ps(_mm512_load_ps(from + p * kBlock + 16), m));
        if (p + 1 == count) a = _mm512_maskz_mov_ps(low_mask, a), b = _mm512_maskz_mov_ps(high_mask, b);
        sum = _mm512_add_ps(sum, _mm512_add_ps(a, b));
        if (back) {
          const __mmask16 live_a = p + 1 == count ? low_mask : 0xffff, live_b = p + 1 == count ? high_mask : 0xffff;
          a = _mm512_mul_ps(a, _mm512_maskz_loadu_ps(live_a, back + p * 32));
          b = _mm512_mul_ps(b, _mm512_maskz_loadu_ps(live_b, back + p * 32 + 16));
        }
        _mm512_store_si512(out + (p * tiles + i / 16) * kTile + i % 16 * 32, narrow(a, b));
      }
      total_[t] += static_cast<double>(_mm512_reduce_add_ps(sum));
    }
  }

  void move_reference(size_t t, float highest) {
    const float before = reference_[t];
    if (highest <= before + kFar) return;
    reference_[t] = highest;
    if (total_[t] == 0) return;
    const double factor = std::exp(static_cast<double>(before) - static_cast<double>(highest));
    total_[t] *= factor;
    const __m512 f = _mm512_set1_ps(static_cast<float>(factor));
    for (int64_t q = 0; q < dx_panels_; ++q) {
      float* g = gradient_row(static_cast<int64_t>(t), q);
      _mm512_store_ps(g, _mm512_mul_ps(_mm512_load_ps(g), f));
      _mm512_store_ps(g + 16, _mm512_mul_ps(_mm512_load_ps(g + 16), f));
    }
  }

  /// 32 columns of g_t, t counted from this share's first row.
  float* gradient_row(int64_t t, int64_t panel) const {
    return gradient_ + (t / 32 * dx_panels_ + panel) * kBlock + t % 32 * 32;
  }

  /// g += exps · W.
  void multiply_back(int64_t p0, int64_t count, int64_t r0, int64_t r1) {
    const int64_t first = backward_->digits() ? p0 / 2 : p0;  // of the steps of a panel
    for (int64_t q = 0; q < dx_panels_; ++q) {
      const bf16* weights = panel_tiles(*backward_, q, p0, count);
      const char* next =
          reinterpret_cast<const char*>(backward_->data() + ((q + 1) * backward_->steps() + first) * 2 * kTile);
      const int64_t lines = q + 1 < dx_panels_ ? lines_of(*backward_) / (r1 - r0) : 0;
      for (int64_t r = r0; r < r1; ++r) {
        float* g = gradient_ + ((r - first_) * dx_panels_ + q) * kBlock;
        const bf16* rows = exps_ + (r - r0) * kChunk * kBlock;
        x_.tiles(r) == 1 ? back_block<1>(rows, weights, count, g, next, lines)
                         : back_block<2>(rows, weights, count, g, next, lines);
      }
    }
  }
  template <int kRows>
  void back_block(const bf16* rows, const bf16* weights, int64_t count, float* g, const char*& next, int64_t lines) {
    multiply_block<kRows, 2>(g, false, {rows, weights, count}, {}, next, lines);
  }

  const Panels& forward_;
  const Panels* backward_;
  const Rows& x_;
  const std::vector<int32_t>& labels_;
  const Matrix& dx_;
  std::vector<double>& losses_;
  int64_t first_ = 0, dx_panels_ = 0;
  std::shared_ptr<Block> memory_;                  // of the gradient, which outlives the walk
  std::shared_ptr<Block> wide_;                    // some weights of 8 bits as bf16
  float *logits_ = nullptr, *gradient_ = nullptr;  // by block of rows and panel
  bf16* exps_ = nullptr;                           // by block of rows, packed as the left factor
  std::vector<float> reference_, label_logit_;
  std::vector<double> total_;
};

}  // namespace
}  // namespace molt::tiles

namespace molt {

namespace {
double sum_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}
}  // namespace

double softmax_loss(const PackedMatrix& weight, const ConstMatrix& x, const std::vector<int32_t>& labels,
                    const Matrix& dx) {
  const tiles::Panels& forward = *weight.panels(true);
  const tiles::Panels* backward = dx.data ? weight.panels(false) : nullptr;
  MOLT_CHECK(x.cols == weight.inputs() && static_cast<int64_t>(labels.size()) == x.rows, "softmax_loss: x (", x.rows,
             ", ", x.cols, ") and ", labels.size(), " labels for a weight that takes ", weight.inputs());
  for (const int32_t label : labels)
    MOLT_CHECK(label >= 0 && label < weight.outputs(), "softmax_loss: label ", label, " of ", weight.outputs());
  const tiles::Rows rows = tiles::Rows::pack(x);
  std::vector<double> losses(static_cast<size_t>(x.rows));
  if (rows.row_blocks() <= tiles::kFew) {
    const int64_t count = std::clamp<int64_t>(weight.outputs() / (32 * tiles::kChunk), 1, tiles::kParts);
    std::vector<tiles::Share> parts(static_cast<size_t>(count),
                                    tiles::Share(forward, backward, rows, labels, dx, losses));
    parallel_for(count, 1, [&](int64_t p) { parts[static_cast<size_t>(p)].run_part(p, count); });
    parallel_for(x.rows, 1, [&](int64_t t) {
      for (size_t p = 1; p < parts.size(); ++p) parts[0].join(t, parts[p]);
      parts[0].finish(t);
    });
    return sum_of(losses);
  }
  parallel_ranges(rows.row_blocks(), 1, [&](int64_t begin, int64_t end) {
    // Some rows at a time, so that their gradients stay near; each pass reads the weight once.
    for (int64_t at = begin; at < end; at += 16)
      tiles::Share(forward, backward, rows, labels, dx, losses).run(at, std::min(at + 16, end));
  });
  return sum_of(losses);
}

}  // namespace molt

#include "molt/device/cpu/amx_end-inl.h"

#else

namespace molt {
double softmax_loss(const PackedMatrix&, const ConstMatrix&, const std::vector<int32_t>&, const Matrix&) { return 0; }
}  // namespace molt

#endif

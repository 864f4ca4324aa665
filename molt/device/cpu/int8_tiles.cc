// What 8-bit integers need beyond the kernels for many rows, on the matrix unit and without it: weights and activations
// in tiles of 64 along K, and the product of one row or a few, for which vectors read the weights as fast as memory
// gives them.
#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "molt/device/cpu/fetch.h"
#include "molt/device/cpu/parallel.h"
#include "molt/device/cpu/tile_gemm.h"
#include "molt/device/lasting_memory.h"

#include <hwy/detect_compiler_arch.h>

namespace molt::tiles {

namespace {
constexpr int64_t kBytes = 1024;  // of a tile
}

Panels::Panels(int64_t k, int64_t n, int digits) : k_(k), n_(n), digits_(digits), steps_((k + 63) / 64) {
  MOLT_CHECK(digits == 1 || digits == 2, "tiles: activations of ", digits, " digits");
  MOLT_CHECK(k <= kLongestInt8, "tiles: a sum of ", k, " products of 8-bit integers");
  block_ = allocate_lasting(static_cast<size_t>(steps_ * 2 * ((n + 31) / 32) * kBytes));
}

void Panels::pack(const int8_t* plain, bool transposed, const float* scales) {
  const int64_t panels = (n_ + 31) / 32;
  (transposed ? column_scales_ : scales_).assign(scales, scales + (transposed ? n_ : k_));
  if (transposed) column_scales_.resize(static_cast<size_t>(panels * 32));
  column_sums_.assign(static_cast<size_t>(panels * 32), 0);
  auto* const out = static_cast<int8_t*>(block_->data());
  std::memset(out, 0, block_->bytes());
  const int64_t k_step = transposed ? 1 : n_, n_step = transposed ? k_ : 1;
  parallel_ranges(panels, (int64_t{1} << 15) / (steps_ * 2048) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin * 32; n < std::min(end * 32, n_); ++n) {
      int8_t* const to = out + (n / 32 * steps_ * 2 + n % 32 / 16) * kBytes + n % 16 * 4;
      int32_t sum = 0;
      for (int64_t k = 0; k < k_; ++k) {
        const int8_t value = plain[k * k_step + n * n_step];
        to[k / 64 * 2 * kBytes + k % 64 / 4 * 64 + k % 4] = value;
        sum += value;
      }
      column_sums_[static_cast<size_t>(n)] = sum;
    }
  });
}

}  // namespace molt::tiles

#if HWY_ARCH_X86

#include <immintrin.h>

#include "molt/device/cpu/avx512_begin-inl.h"
#include "molt/device/cpu/int8_sums-inl.h"

namespace molt::tiles {
namespace {

/// 16 of the numbers from k on of one row, times their factors; zeros from `end` on.
template <class T>
inline __m512 load_16(const T* row, const float* factors, int64_t k, int64_t end) {
  const int64_t live = std::clamp<int64_t>(end - k, 0, 16);
  const auto mask = static_cast<__mmask16>((uint32_t{1} << live) - 1);
  __m512 v;
  if constexpr (sizeof(T) == 4)
    v = _mm512_maskz_loadu_ps(mask, row + k);
  else
    v = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, row + k)), 16));
  return factors ? _mm512_mul_ps(v, _mm512_maskz_loadu_ps(mask, factors + k)) : v;
}

/// a_t = the largest magnitude / 127, and 1 / a_t or 0 for a row that counts as zero.
struct RowScale {
  float scale, inverse;
};
template <class T>
RowScale scale_of(const T* row, const float* factors, int64_t k) {
  // As integers, magnitudes sort like numbers, infinity above them and NaN above that.
  __m512i largest = _mm512_setzero_si512();
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  for (int64_t i = 0; i < k; i += 16)
    largest = _mm512_max_epu32(largest, _mm512_and_si512(_mm512_castps_si512(load_16(row, factors, i, k)), magnitude));
  const auto bits = _mm512_reduce_max_epu32(largest);
  if (bits >= 0x7f800000) return {std::numeric_limits<float>::quiet_NaN(), 0};
  const float most = std::bit_cast<float>(bits);
  return most < 0x1p-100f ? RowScale{0, 0} : RowScale{most / 127, 127 / most};
}

/// The digits of 16 numbers at a time, their bits in `flip` turned over: 0x80 adds 128, for kernels on vectors, whose
/// left operand has no sign.
inline void store_digits(__m512 scaled, __m128i flip, int8_t* first, int8_t* second) {
  const auto store = [flip](__m512i digit, int8_t* to) {
    _mm_store_si128(reinterpret_cast<__m128i*>(to), _mm_xor_si128(_mm512_cvtsepi32_epi8(digit), flip));
  };
  const __m512i h = _mm512_cvtps_epi32(scaled);
  store(h, first);
  if (!second) return;
  const __m512 rest = _mm512_mul_ps(_mm512_sub_ps(scaled, _mm512_cvtepi32_ps(h)), _mm512_set1_ps(254.0f));
  store(_mm512_cvtps_epi32(rest), second);
}

/// kStreams rows of digits, `steps` · 64 bytes each with 128 added, by one panel: sums as rows of 32. Each sum is kept
/// in kSplit parts, as the unit takes several cycles from one to the next.
template <int kStreams, class Fetch>
void few_by_panel(Fetch fetch, const uint8_t* x, const int8_t* b, int64_t steps, int32_t* sums) {
  constexpr int kSplit = kStreams == 1 ? 4 : kStreams == 2 ? 2 : 1;
  __m512i sum[kStreams][2][kSplit];
#pragma GCC unroll 8
  for (int r = 0; r < kStreams; ++r)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h)
#pragma GCC unroll 4
      for (int i = 0; i < kSplit; ++i) sum[r][h][i] = _mm512_setzero_si512();
  for (int64_t s = 0; s < steps; ++s)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h, b += kBytes)  // in the order of memory
      for (int64_t i = 0; i < 16; i += kSplit) {
#pragma GCC unroll 4
        for (int j = 0; j < kSplit; ++j) {
          const int8_t* at = b + (i + j) * 64;
          fetch.line(at);
          const __m512i columns = _mm512_load_si512(at);
#pragma GCC unroll 8
          for (int r = 0; r < kStreams; ++r) {
            int32_t four;
            std::memcpy(&four, x + (r * steps + s) * 64 + 4 * (i + j), sizeof(four));
            const __m512i factor = _mm512_set1_epi32(four);
            sum[r][h][j] = _mm512_dpbusd_epi32(sum[r][h][j], factor, columns);
          }
        }
      }
#pragma GCC unroll 8
  for (int r = 0; r < kStreams; ++r)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      __m512i all = sum[r][h][0];
      for (int i = 1; i < kSplit; ++i) all = _mm512_add_epi32(all, sum[r][h][i]);
      _mm512_store_si512(sums + r * 32 + h * 16, all);
    }
}

void few_by_panel_of(int64_t streams, const uint8_t* x, const int8_t* b, int64_t steps, int32_t* sums) {
  with_fetch([&](auto fetch) {
    switch (streams) {
      case 1:
        return few_by_panel<1>(fetch, x, b, steps, sums);
      case 2:
        return few_by_panel<2>(fetch, x, b, steps, sums);
      case 3:
        return few_by_panel<3>(fetch, x, b, steps, sums);
      case 4:
        return few_by_panel<4>(fetch, x, b, steps, sums);
      case 6:
        return few_by_panel<6>(fetch, x, b, steps, sums);
      default:
        return few_by_panel<8>(fetch, x, b, steps, sums);
    }
  });
}

}  // namespace

void Rows::quantise_share(const ConstMatrix& x, const float* factors, int64_t begin, int64_t end) const {
  const __m128i flip = _mm_set1_epi8(unit_available() ? 0 : static_cast<char>(0x80));
  const auto quantise = [&](auto* data) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t row = block * block_rows(), count = tiles(block) == 1 ? 16 : block_rows();
      RowScale of[32] = {};
      for (int64_t r = 0; r < count; ++r) {
        if (row + r < rows_) of[r] = scale_of(data + (row + r) * x.ld, factors, k_);
        scales()[row + r] = of[r].scale;
      }
      for (int64_t part = 0; part < parts(); ++part) {
        const int64_t first = part_begin(part), steps = part_begin(part + 1) - first;
        auto* const to = reinterpret_cast<int8_t*>(at(part, block));
        for (int64_t r = 0; r < count; ++r) {
          const auto* from = data + (row + r) * x.ld;
          const __m512 inverse = _mm512_set1_ps(of[r].inverse);
          for (int64_t s = 0; s < steps; ++s) {
            int8_t* out = to + (s * tiles(block) + r / 16) * kBytes + r % 16 * 64;
            for (int64_t i = 0; i < 64; i += 16) {
              const int64_t k = (first + s) * 64 + i;
              const __m512 v = row + r < rows_ ? load_16(from, factors, k, k_) : _mm512_setzero_ps();
              store_digits(_mm512_mul_ps(v, inverse), flip, out + i, digits_ == 2 ? out + kBytes + i : nullptr);
            }
          }
        }
      }
    }
  };
  x.dtype == Dtype::kF32 ? quantise(static_cast<const float*>(x.data)) : quantise(static_cast<const bf16*>(x.data));
}

/// What the shift by 128 adds is taken off again: 128 times the sums of the columns.
void Panels::few_int8(const ConstMatrix& x, const Matrix& y, const float* bias, bool accumulate) const {
  constexpr int64_t kMost = 8 * 8192;
  const int64_t width = steps_ * 64, panels = (n_ + 31) / 32, streams = x.rows * digits_;
  MOLT_CHECK(streams * width <= kMost + 8 * 64, "tiles: a few rows of ", x.cols);
  alignas(64) uint8_t rows[kMost + 8 * 64];
  float scales[8];
  for (int64_t r = 0; r < x.rows; ++r) {
    const auto fill = [&](const auto* row) {
      const RowScale scale = scale_of(row, row_scales(), k_);
      scales[r] = scale.scale;
      for (int64_t k = 0; k < width; k += 16) {
        auto* first = reinterpret_cast<int8_t*>(rows) + r * width + k;
        store_digits(_mm512_mul_ps(load_16(row, row_scales(), k, k_), _mm512_set1_ps(scale.inverse)),
                     _mm_set1_epi8(static_cast<char>(0x80)), first, digits_ == 2 ? first + x.rows * width : nullptr);
      }
    };
    x.dtype == Dtype::kF32 ? fill(static_cast<const float*>(x.data) + r * x.ld)
                           : fill(static_cast<const bf16*>(x.data) + r * x.ld);
  }
  const auto* const weights = reinterpret_cast<const int8_t*>(data());
  parallel_ranges(panels, 64 / steps_ + 1, [&](int64_t begin, int64_t end) {
    alignas(64) int32_t raw[8 * 32];
    alignas(64) int32_t sums[kBlock] = {};
    for (int64_t p = begin; p < end; ++p) {
      few_by_panel_of(streams, rows, weights + p * steps_ * 2 * kBytes, steps_, raw);
      for (int64_t i = 0; i < streams; ++i)
        for (int64_t c = 0; c < 32; ++c)
          sums[(i < x.rows ? i : 16 + i - x.rows) * 32 + c] =
              raw[i * 32 + c] - 128 * column_sums_[static_cast<size_t>(p * 32 + c)];
      const Int8Sums whole{.sums = sums,
                           .digits = digits_,
                           .row_scales = scales,
                           .column_scales = column_scales() ? column_scales() + p * 32 : nullptr,
                           .more = nullptr,
                           .bias = bias ? bias + p * 32 : nullptr,
                           .accumulate = accumulate,
                           .rows = x.rows,
                           .cols = std::min<int64_t>(32, n_ - p * 32)};
      finish_int8<false>(whole, y, 0, p * 32, false);
    }
  });
}

}  // namespace molt::tiles

#include "molt/device/cpu/amx_end-inl.h"

#else

namespace molt::tiles {
void Rows::quantise_share(const ConstMatrix&, const float*, int64_t, int64_t) const {}
void Panels::few_int8(const ConstMatrix&, const Matrix&, const float*, bool) const {}
}  // namespace molt::tiles

#endif

// From whole sums of products of 8-bit integers to the floating numbers they stand for; for the kernels on the matrix
// unit and on AVX-512 vectors. Include between amx_begin-inl.h or avx512_begin-inl.h and amx_end-inl.h; x86 only.
#pragma once

#include <algorithm>
#include <cstdint>

#include <immintrin.h>

#include "molt/device/cpu/tile_kernels.h"
#include "molt/device/matrix.h"

namespace molt::tiles {
namespace {

/// 16 numbers as bf16, rounded to nearest; `kUnit`: the processor has an instruction for it.
template <bool kUnit>
inline __m256i narrow_16(__m512 v) {
  if constexpr (kUnit) {
    return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v));
  } else {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(_mm512_srli_epi32(rounded, 16), nan, _mm512_set1_epi32(0x7fc0)));
  }
}

/// A block of whole sums of products of integers, and what they stand for.
struct Int8Sums {
  const int32_t* sums;  // rows of 32; with two digits, the second ones from row 16 on
  int digits;
  const float* row_scales;     // of the activations
  const float* column_scales;  // of the weights; null where they are in the activations already
  const float* more;           // rows of 32 that are added, or null
  const float* bias;
  bool accumulate;
  int64_t rows, cols;
};

/// Whole sums of integers to y as floating numbers; past the caches where `lines` (rows of y are whole cache lines).
template <bool kUnit, class T>
void finish_int8(const Int8Sums& s, T* y, int64_t ld, bool lines) {
  const bool stream = lines && s.cols == 32 && !s.accumulate;
  const uint32_t live = s.cols == 32 ? ~uint32_t{0} : (uint32_t{1} << s.cols) - 1;
  const __mmask16 masks[] = {static_cast<__mmask16>(live), static_cast<__mmask16>(live >> 16)};
  __m512 column[2], bias[2];
  for (int i = 0; i < 2; ++i) {
    column[i] = s.column_scales ? _mm512_loadu_ps(s.column_scales + i * 16) : _mm512_set1_ps(1.0f);
    bias[i] = s.bias ? _mm512_maskz_loadu_ps(masks[i], s.bias + i * 16) : _mm512_setzero_ps();
  }
  for (int64_t r = 0; r < s.rows; ++r, y += ld) {
    const int32_t* sums = s.sums + r * 32;
    __m512 v[2];
    for (int i = 0; i < 2; ++i) {
      v[i] = _mm512_cvtepi32_ps(_mm512_load_si512(sums + i * 16));
      if (s.digits == 2)
        v[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums + 16 * 32 + i * 16)),
                               _mm512_set1_ps(1.0f / 254), v[i]);
      v[i] = _mm512_fmadd_ps(v[i], _mm512_mul_ps(column[i], _mm512_set1_ps(s.row_scales[r])), bias[i]);
      if (s.more) v[i] = _mm512_add_ps(v[i], _mm512_load_ps(s.more + r * 32 + i * 16));
    }
    if constexpr (sizeof(T) == 4) {
      for (int i = 0; i < 2; ++i) {
        if (stream) {
          _mm512_stream_ps(y + i * 16, v[i]);
          continue;
        }
        if (s.accumulate) v[i] = _mm512_add_ps(v[i], _mm512_maskz_loadu_ps(masks[i], y + i * 16));
        _mm512_mask_storeu_ps(y + i * 16, masks[i], v[i]);
      }
    } else if (stream) {
      const __m512i low = _mm512_castsi256_si512(narrow_16<kUnit>(v[0]));
      _mm512_stream_si512(reinterpret_cast<__m512i*>(y), _mm512_inserti64x4(low, narrow_16<kUnit>(v[1]), 1));
    } else {
      for (int i = 0; i < 2; ++i) {
        if (s.accumulate) {
          const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(masks[i], y + i * 16));
          v[i] = _mm512_add_ps(v[i], _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)));
        }
        _mm256_mask_storeu_epi16(y + i * 16, masks[i], narrow_16<kUnit>(v[i]));
      }
    }
  }
}

/// The same to a matrix, from its element (row, col) on.
template <bool kUnit>
void finish_int8(const Int8Sums& s, const Matrix& y, int64_t row, int64_t col, bool lines) {
  const int64_t at = row * y.ld + col;
  if (y.dtype == Dtype::kF32)
    finish_int8<kUnit>(s, static_cast<float*>(y.data) + at, y.ld, lines);
  else
    finish_int8<kUnit>(s, static_cast<bf16*>(y.data) + at, y.ld, lines);
}

/// Block r of panel p, whole sums of a product of integers, to the product's result.
template <bool kUnit>
void finish_int8_block(const Call& c, int64_t r, int64_t p, const int32_t* sums) {
  alignas(64) float more[kBlock];
  if (c.more_rows) low_rank_block(c, r, p, more);
  const int64_t row = r * c.x.block_rows(), col = p * 32;
  const Int8Sums s{.sums = sums,
                   .digits = c.x.digits(),
                   .row_scales = c.x.scales() + row,
                   .column_scales = c.weights.column_scales() ? c.weights.column_scales() + col : nullptr,
                   .more = c.more_rows ? more : nullptr,
                   .bias = c.bias ? c.bias + col : nullptr,
                   .accumulate = c.accumulate,
                   .rows = std::min(c.x.block_rows(), c.y.rows - row),
                   .cols = std::min<int64_t>(32, c.y.cols - col)};
  finish_int8<kUnit>(s, c.y, row, col, c.lines);
}

}  // namespace
}  // namespace molt::tiles

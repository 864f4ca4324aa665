// Sums of products of bf16 tiles on AVX-512 vectors, for processors that have bf16 instructions and no matrix unit. One
// instruction multiplies two numbers along K of 16 columns by those of one row, and adds; where that takes four times
// as long as one multiplication of f32 (Intel), both factors are widened instead. Include between amx_begin-inl.h and
// amx_end-inl.h; x86 only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include <immintrin.h>

#include "molt/device/matrix.h"

namespace molt::tiles {
namespace {

constexpr int kLines = 8;  // of activations at a time, which leaves registers for their sums

/// Tiles of one block of rows and of one panel of columns, step by step along K.
struct Run {
  const bf16 *rows = nullptr, *columns = nullptr;
  int64_t steps = 0;
  int64_t stride = 0;  ///< numbers from one step of the rows to the next, where it is not that of whole blocks
  int64_t pairs = 16;  ///< of numbers along K in the last step, beyond which there are zeros
};

/// kLines lines of the run's rows by 16 · kCols of its columns: = or += to rows of 32 sums. `lines` cache lines of
/// `next` are fetched per step.
template <int kCols>
inline void multiply_lines(const Run& run, bool fresh, float* sums, const char*& next, int64_t lines) {
  constexpr int64_t kTileSize = 512;
  __m512 sum[kLines][kCols];
#pragma GCC unroll 8
  for (int r = 0; r < kLines; ++r)
#pragma GCC unroll 2
    for (int c = 0; c < kCols; ++c) sum[r][c] = fresh ? _mm512_setzero_ps() : _mm512_load_ps(sums + r * 32 + c * 16);
  const bf16 *x = run.rows, *weights = run.columns;
  for (int64_t s = 0; s < run.steps; ++s, x += run.stride, weights += 2 * kTileSize) {
    const int64_t pairs = s + 1 < run.steps ? 16 : run.pairs;
#pragma GCC unroll 2
    for (int64_t i = 0; i < pairs; ++i) {
      __m512bh column[kCols];
#pragma GCC unroll 2
      for (int c = 0; c < kCols; ++c)
        column[c] = reinterpret_cast<__m512bh>(_mm512_load_si512(weights + c * kTileSize + i * 32));
#pragma GCC unroll 8
      for (int r = 0; r < kLines; ++r) {
        int32_t pair;
        std::memcpy(&pair, x + r * 32 + i * 2, sizeof(pair));
        const auto factor = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
#pragma GCC unroll 2
        for (int c = 0; c < kCols; ++c) sum[r][c] = _mm512_dpbf16_ps(sum[r][c], factor, column[c]);
      }
    }
    for (int64_t i = 0; i < lines; ++i, next += 64) _mm_prefetch(next, _MM_HINT_T1);
  }
#pragma GCC unroll 8
  for (int r = 0; r < kLines; ++r)
#pragma GCC unroll 2
    for (int c = 0; c < kCols; ++c) _mm512_store_ps(sums + r * 32 + c * 16, sum[r][c]);
}

/// Numbers of bf16 as they lie in pairs: the even ones, and the odd ones, in f32.
inline __m512 even(__m512i pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }
inline __m512 odd(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int32_t>(0xffff0000))));
}

/// The same as multiply_lines in f32: rows are widened some steps at a time, columns on the way.
template <int kCols>
inline void multiply_lines_widened(const Run& run, bool fresh, float* sums, const char*& next, int64_t lines) {
  constexpr int64_t kTileSize = 512, kSteps = 8;
  alignas(64) float wide[kLines][kSteps * 32];  // by step: 16 even numbers, 16 odd ones
  __m512 sum[kLines][kCols];
#pragma GCC unroll 8
  for (int r = 0; r < kLines; ++r)
#pragma GCC unroll 2
    for (int c = 0; c < kCols; ++c) sum[r][c] = fresh ? _mm512_setzero_ps() : _mm512_load_ps(sums + r * 32 + c * 16);
  const bf16* weights = run.columns;
  for (int64_t begin = 0; begin < run.steps; begin += kSteps) {
    const int64_t steps = std::min(kSteps, run.steps - begin);
    for (int64_t s = 0; s < steps; ++s)
#pragma GCC unroll 8
      for (int r = 0; r < kLines; ++r) {
        const __m512i row = _mm512_load_si512(run.rows + (begin + s) * run.stride + r * 32);
        _mm512_store_ps(wide[r] + s * 32, even(row));
        _mm512_store_ps(wide[r] + s * 32 + 16, odd(row));
      }
    for (int64_t s = 0; s < steps; ++s, weights += 2 * kTileSize) {
      const int64_t pairs = begin + s + 1 < run.steps ? 16 : run.pairs;
      for (int64_t i = 0; i < pairs; ++i) {
        __m512 column[2][kCols];
#pragma GCC unroll 2
        for (int c = 0; c < kCols; ++c) {
          const __m512i both = _mm512_load_si512(weights + c * kTileSize + i * 32);
          column[0][c] = even(both), column[1][c] = odd(both);
        }
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half)
#pragma GCC unroll 8
          for (int r = 0; r < kLines; ++r) {
            const __m512 factor = _mm512_set1_ps(wide[r][s * 32 + half * 16 + i]);
#pragma GCC unroll 2
            for (int c = 0; c < kCols; ++c) sum[r][c] = _mm512_fmadd_ps(factor, column[half][c], sum[r][c]);
          }
      }
      for (int64_t i = 0; i < lines; ++i, next += 64) _mm_prefetch(next, _MM_HINT_T1);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kLines; ++r)
#pragma GCC unroll 2
    for (int c = 0; c < kCols; ++c) _mm512_store_ps(sums + r * 32 + c * 16, sum[r][c]);
}

}  // namespace
}  // namespace molt::tiles

// Sums of products of bf16 tiles on AVX-512 vectors, for processors that have bf16 instructions and no matrix unit. One
// instruction multiplies two numbers along K of 16 columns by those of one row, and adds; where that takes four times
// as long as one multiplication of f32 (Intel), both factors are widened instead. Include between amx_begin-inl.h and
// amx_end-inl.h; x86 only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include <immintrin.h>

#include "molt/device/cpu/tile_gemm.h"
#include "molt/device/matrix.h"

namespace molt::tiles {
namespace {

constexpr int kLines = 8;  // of activations at a time, which leaves registers for their sums

/// Tiles of one block of rows and of one panel of columns, step by step along K.
struct Run {
  const bf16 *rows = nullptr, *columns = nullptr;
  int64_t steps = 0;
  int64_t stride = 0;           ///< numbers from one step of the rows to the next, where it is not that of whole blocks
  int64_t pairs = 16;           ///< of numbers along K in the last step, beyond which there are zeros
  const float* wide = nullptr;  ///< the columns as widen_columns leaves them, where that has been done
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

/// Both tiles of each step of columns in f32: 16 even numbers, 16 odd ones, and so on.
inline void widen_columns(const bf16* columns, int64_t steps, float* to) {
  for (const bf16* const end = columns + steps * 1024; columns < end; columns += 32, to += 32) {
    const __m512i both = _mm512_load_si512(columns);
    _mm512_store_ps(to, even(both));
    _mm512_store_ps(to + 16, odd(both));
  }
}

/// The same as multiply_lines in f32: rows are widened some steps at a time, and columns on the way where they are not
/// yet (kWide).
template <int kCols, bool kWide>
inline void multiply_lines_widened(const Run& run, bool fresh, float* sums, const char*& next, int64_t lines) {
  constexpr int64_t kTileSize = 512, kSteps = 8;
  alignas(64) float rows[kLines][kSteps * 32];  // by step: 16 even numbers, 16 odd ones
  __m512 sum[kLines][kCols];
#pragma GCC unroll 8
  for (int r = 0; r < kLines; ++r)
#pragma GCC unroll 2
    for (int c = 0; c < kCols; ++c) sum[r][c] = fresh ? _mm512_setzero_ps() : _mm512_load_ps(sums + r * 32 + c * 16);
  for (int64_t begin = 0; begin < run.steps; begin += kSteps) {
    const int64_t end = std::min(begin + kSteps, run.steps);
    for (int64_t s = begin; s < end; ++s)
#pragma GCC unroll 8
      for (int r = 0; r < kLines; ++r) {
        const __m512i row = _mm512_load_si512(run.rows + s * run.stride + r * 32);
        _mm512_store_ps(rows[r] + (s - begin) * 32, even(row));
        _mm512_store_ps(rows[r] + (s - begin) * 32 + 16, odd(row));
      }
    for (int64_t s = begin; s < end; ++s) {
      const int64_t pairs = s + 1 < run.steps ? 16 : run.pairs;
      for (int64_t i = 0; i < pairs; ++i) {
        __m512 column[2][kCols];
#pragma GCC unroll 2
        for (int c = 0; c < kCols; ++c) {
          const int64_t at = (2 * s + c) * kTileSize + i * 32;
          if constexpr (kWide) {
            column[0][c] = _mm512_load_ps(run.wide + at), column[1][c] = _mm512_load_ps(run.wide + at + 16);
          } else {
            const __m512i both = _mm512_load_si512(run.columns + at);
            column[0][c] = even(both), column[1][c] = odd(both);
          }
        }
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half)
#pragma GCC unroll 8
          for (int r = 0; r < kLines; ++r) {
            const __m512 factor = _mm512_set1_ps(rows[r][(s - begin) * 32 + half * 16 + i]);
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

/// multiply_lines by whichever way is fast here.
template <int kCols>
inline void multiply_lines_best(const Run& run, bool fresh, float* sums, const char*& next, int64_t lines) {
  if (pairs_are_fast()) return multiply_lines<kCols>(run, fresh, sums, next, lines);
  run.wide ? multiply_lines_widened<kCols, true>(run, fresh, sums, next, lines)
           : multiply_lines_widened<kCols, false>(run, fresh, sums, next, lines);
}

}  // namespace
}  // namespace molt::tiles

// Sums of products of bf16 tiles on AVX-512 vectors, for processors that have bf16 instructions and no matrix unit: one
// instruction multiplies two numbers along K of 16 columns by those of one row, and adds. Include between
// amx_begin-inl.h and amx_end-inl.h; x86 only.
#pragma once

#include <cstdint>
#include <cstring>

#include <immintrin.h>

#include "molt/device/matrix.h"

namespace molt::tiles {
namespace {

constexpr int kLines = 8;  // of activations at a time, which leaves registers for their sums

/// kLines lines of tiles of activations, `stride` numbers from one step to the next, by 16 · kCols columns of weights:
/// = or += to rows of 32 sums. `lines` lines of `next` are fetched per step.
template <int kCols>
inline void multiply_lines(const bf16* x, int64_t stride, const bf16* weights, int64_t steps, bool fresh, float* sums,
                           const char*& next, int64_t lines) {
  constexpr int64_t kTileSize = 512;
  __m512 sum[kLines][kCols];
#pragma GCC unroll 8
  for (int r = 0; r < kLines; ++r)
#pragma GCC unroll 2
    for (int c = 0; c < kCols; ++c) sum[r][c] = fresh ? _mm512_setzero_ps() : _mm512_load_ps(sums + r * 32 + c * 16);
  for (int64_t s = 0; s < steps; ++s, x += stride, weights += 2 * kTileSize) {
#pragma GCC unroll 2
    for (int64_t i = 0; i < 16; ++i) {
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

}  // namespace
}  // namespace molt::tiles

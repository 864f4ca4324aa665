// Pieces of the kernels that multiply tiles, on Intel's matrix unit (AMX) or, of bf16, on AVX-512 vectors:
// configuration, packing rows of activations, sums of blocks. Include between amx_begin-inl.h and amx_end-inl.h, inside
// no namespace; x86 only.
#pragma once

#include <algorithm>
#include <cstdint>

#include <immintrin.h>

#include "molt/device/cpu/tile_gemm.h"
#include "molt/device/matrix.h"
#ifdef MOLT_EMULATE_AMX
#include "molt/device/cpu/amx_emulated-inl.h"
#endif
#include "molt/device/cpu/bf16_lines-inl.h"  // behind the emulation, which replaces instructions of bf16 too

namespace molt::tiles {
namespace {

constexpr int64_t kTile = 512;  // bf16 in a tile of 16 rows of 64 bytes

struct TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t columns[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
alignas(64) const TileConfig kConfig{};

/// Before the first block of sums on a thread, and after its last one.
inline void begin_tiles() {
  if (!unit_available()) return;
#ifdef MOLT_EMULATE_AMX
  emulated::clear_tiles();
#else
  // The intrinsic's declaration names a part of its operand only: nothing of it may still wait in registers.
  asm volatile("ldtilecfg %0" : : "m"(kConfig) : "memory");
#endif
}
inline void end_tiles() {
  if (unit_available()) _tile_release();
}

/// 32 values as bf16 in order.
inline __m512i narrow(__m512 low, __m512 high) { return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)); }

/// `count` of 32 values of one row, zeros beyond.
inline __m512i load_row(const float* from, int64_t count) {
  if (count >= 32) return narrow(_mm512_loadu_ps(from), _mm512_loadu_ps(from + 16));
  const uint32_t mask = (uint32_t{1} << count) - 1;
  return narrow(_mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), from),
                _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), from + 16));
}
inline __m512i load_row(const bf16* from, int64_t count) {
  if (count >= 32) return _mm512_loadu_si512(from);
  return _mm512_maskz_loadu_epi16((uint32_t{1} << count) - 1, from);
}

/// Rows [row, row + 16 tiles) of x into tiles: by step along K, `tiles` tiles each.
template <class T>
void pack_rows(const ConstMatrix& x, int64_t row, int64_t tiles, bf16* to) {
  constexpr int64_t kRun =
      4;  // steps of a row at a time: enough to stream, few enough to stay in the first-level cache
  const int64_t steps = (x.cols + 31) / 32;
  for (int64_t begin = 0; begin < steps; begin += kRun) {
    const int64_t end = std::min(begin + kRun, steps);
    for (int64_t r = 0; r < tiles * 16; ++r) {
      bf16* out = to + (r / 16 + begin * tiles) * kTile + r % 16 * 32;
      const T* from = static_cast<const T*>(x.data) + (row + r) * x.ld;
      for (int64_t s = begin; s < end; ++s, out += tiles * kTile)
        _mm512_store_si512(out, row + r < x.rows ? load_row(from + s * 32, x.cols - s * 32) : _mm512_setzero_si512());
    }
  }
}

/// Tile `sum` += tile `a` · tile `b`. A macro, as tiles are named in the instruction.
#define MOLT_MULTIPLY_TILES(sum, a, b)      \
  do {                                      \
    if constexpr (kFormat == Format::kInt8) \
      _tile_dpbssd(sum, a, b);              \
    else                                    \
      _tile_dpbf16ps(sum, a, b);            \
  } while (false)

/// Tiles 0 to 3 += rows · columns. `lines` cache lines of `next` are fetched per step.
template <int kRows, int kCols, Format kFormat = Format::kBf16>
inline void accumulate_tiles(const Run& run, const char*& next, int64_t lines) {
  const bf16 *a = run.rows, *b = run.columns;
  const int64_t stride = run.stride ? run.stride : kRows * kTile;
  for (int64_t s = 0; s < run.steps; ++s, a += stride, b += 2 * kTile) {
    _tile_loadd(6, b, 64);
    _tile_loadd(4, a, 64);
    MOLT_MULTIPLY_TILES(0, 4, 6);
    if constexpr (kCols > 1) {
      _tile_loadd(7, b + kTile, 64);
      MOLT_MULTIPLY_TILES(1, 4, 7);
    }
    if constexpr (kRows > 1) {
      _tile_loadd(5, a + kTile, 64);
      MOLT_MULTIPLY_TILES(2, 5, 6);
      if constexpr (kCols > 1) MOLT_MULTIPLY_TILES(3, 5, 7);
    }
    for (int64_t i = 0; i < lines; ++i, next += 64) _mm_prefetch(next, _MM_HINT_T1);
  }
}

#undef MOLT_MULTIPLY_TILES

/// A block of sums from or to memory, rows of 32 floats or integers.
template <int kRows, int kCols>
inline void load_sums(const float* c) {
  _tile_loadd(0, c, 128);
  if constexpr (kCols > 1) _tile_loadd(1, c + 16, 128);
  if constexpr (kRows > 1) _tile_loadd(2, c + 512, 128);
  if constexpr (kRows > 1 && kCols > 1) _tile_loadd(3, c + 528, 128);
}
template <int kRows, int kCols>
inline void store_sums(float* c) {
  _tile_stored(0, c, 128);
  if constexpr (kCols > 1) _tile_stored(1, c + 16, 128);
  if constexpr (kRows > 1) _tile_stored(2, c + 512, 128);
  if constexpr (kRows > 1 && kCols > 1) _tile_stored(3, c + 528, 128);
}
inline void zero_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

/// A block of sums, rows of 32 numbers: += `run` (= where `fresh`), then += `more`, which is of bf16. `lines` cache
/// lines of `next` are fetched for each step of `run`.
template <int kRows, int kCols, Format kFormat = Format::kBf16>
inline void multiply_block(float* sums, bool fresh, const Run& run, const Run& more, const char*& next, int64_t lines) {
  if (kFormat == Format::kInt8 || unit_available()) {
    fresh ? zero_sums() : load_sums<kRows, kCols>(sums);
    accumulate_tiles<kRows, kCols, kFormat>(run, next, lines);
    if (more.steps) accumulate_tiles<kRows, kCols>(more, next, 0);
    return store_sums<kRows, kCols>(sums);
  }
  const char* none = nullptr;
  constexpr int kPasses = kRows * 16 / kLines;
  for (int l = 0; l < kRows * 16; l += kLines) {
    const int64_t at = l / 16 * kTile + l % 16 * 32, pass = l / kLines;
    const auto multiply = [&](Run r, bool first, const char*& fetched, int64_t fetch) {
      r.rows += at;
      if (!r.stride) r.stride = kRows * kTile;
      multiply_lines_best<kCols>(r, first, sums + l * 32, fetched, fetch);
    };
    multiply(run, fresh, next, lines * (pass + 1) / kPasses - lines * pass / kPasses);
    if (more.steps) multiply(more, false, none, 0);
  }
}

/// `rows` x `cols` numbers of a block of sums to y, with what is added on the way.
template <class T>
void finish(const float* sums, int64_t rows, int64_t cols, const float* bias, bool add, T* y, int64_t ld) {
  for (int64_t r = 0; r < rows; ++r, sums += 32, y += ld)
    for (int64_t c = 0; c < cols; c += 16) {
      const int64_t live = std::min<int64_t>(16, cols - c);
      const auto mask = static_cast<__mmask16>((uint32_t{1} << live) - 1);
      __m512 v = _mm512_loadu_ps(sums + c);
      if (bias) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, bias + c));
      if constexpr (sizeof(T) == 4) {
        if (add) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, y + c));
        _mm512_mask_storeu_ps(y + c, mask, v);
      } else {
        if (add) {
          const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, y + c));
          v = _mm512_add_ps(v, _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16)));
        }
        _mm256_mask_storeu_epi16(y + c, mask, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)));
      }
    }
}

/// The same for 32 columns of whole cache lines, written past the caches: rows of y lie far apart, so that as many of
/// them compete for few places in the caches, and would drive out x and the weights.
template <class T, bool kBias, bool kAdd>
inline void finish_lines(const float* sums, int64_t rows, const float* bias, T* y, int64_t ld) {
  for (int64_t r = 0; r < rows; ++r, sums += 32, y += ld) {
    __m512 v0 = _mm512_load_ps(sums), v1 = _mm512_load_ps(sums + 16);
    if constexpr (kBias)
      v0 = _mm512_add_ps(v0, _mm512_loadu_ps(bias)), v1 = _mm512_add_ps(v1, _mm512_loadu_ps(bias + 16));
    if constexpr (sizeof(T) == 4) {
      if constexpr (kAdd) v0 = _mm512_add_ps(v0, _mm512_load_ps(y)), v1 = _mm512_add_ps(v1, _mm512_load_ps(y + 16));
      _mm512_stream_ps(y, v0);
      _mm512_stream_ps(y + 16, v1);
    } else {
      _mm512_stream_si512(reinterpret_cast<__m512i*>(y), narrow(v0, v1));
    }
  }
}

}  // namespace
}  // namespace molt::tiles

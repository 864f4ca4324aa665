// Products of 8-bit integers for processors that have AVX-512 with VNNI and no matrix unit, from the same tiles: an
// instruction multiplies 64 bytes of weights, 4 along K of 16 columns, by 4 bytes of one row, and adds. Its left
// operand has no sign: activations have 128 added, and each sum starts from -128 times the sum of its column.
#include <algorithm>
#include <cstring>

#include "molt/device/cpu/tile_kernels.h"

#include <hwy/detect_compiler_arch.h>

#if HWY_ARCH_X86

#include <immintrin.h>

#include "molt/device/cpu/avx512_begin-inl.h"
#include "molt/device/cpu/int8_sums-inl.h"

namespace molt::tiles {
namespace {

constexpr int64_t kBytes = 1024;  // of a tile
constexpr int kLines = 8;         // of activations at a time, which leaves registers for their sums

/// kLines lines of a tile of activations, `stride` bytes from one step to the next, by one panel: += to rows of 32
/// sums. `lines` cache lines of `next` are fetched per step.
inline void multiply_lines(const uint8_t* x, int64_t stride, const int8_t* weights, int64_t steps, int32_t* sums,
                           const char*& next, int64_t lines) {
  __m512i sum[kLines][2];
#pragma GCC unroll 8
  for (int r = 0; r < kLines; ++r)
    sum[r][0] = _mm512_load_si512(sums + r * 32), sum[r][1] = _mm512_load_si512(sums + r * 32 + 16);
  for (int64_t s = 0; s < steps; ++s, x += stride, weights += 2 * kBytes) {
    for (int64_t i = 0; i < 16; ++i) {
      const __m512i low = _mm512_load_si512(weights + i * 64), high = _mm512_load_si512(weights + kBytes + i * 64);
#pragma GCC unroll 8
      for (int r = 0; r < kLines; ++r) {
        int32_t four;
        std::memcpy(&four, x + r * 64 + i * 4, sizeof(four));
        const __m512i factor = _mm512_set1_epi32(four);
        sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], factor, low);
        sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], factor, high);
      }
    }
    for (int64_t i = 0; i < lines; ++i, next += 64) _mm_prefetch(next, _MM_HINT_T1);
  }
#pragma GCC unroll 8
  for (int r = 0; r < kLines; ++r)
    _mm512_store_si512(sums + r * 32, sum[r][0]), _mm512_store_si512(sums + r * 32 + 16, sum[r][1]);
}

/// A block of sums with nothing in them but what takes the shift by 128 off.
void begin_sums(const int32_t* column_sums, int32_t* sums) {
  for (int half = 0; half < 2; ++half) {
    const __m512i columns = _mm512_loadu_si512(column_sums + half * 16);
    const __m512i start = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(columns, 7));
    for (int64_t r = 0; r < 32; ++r) _mm512_store_si512(sums + r * 32 + half * 16, start);
  }
}

/// Lines of block r that hold rows of x.
int64_t lines_of(const Rows& x, int64_t r) {
  const int64_t rows = std::min(x.block_rows(), x.rows() - r * x.block_rows());
  return x.digits() == 2 ? 32 : (rows + kLines - 1) / kLines * kLines;
}

}  // namespace

void blocks_vnni(const Call& c, int64_t row_begin, int64_t row_end, int64_t panel_begin, int64_t panel_end) {
  alignas(64) int32_t close[kRowsAtOnce * kBlock];
  for (int64_t first = row_begin; first < row_end; first += kRowsAtOnce) {
    const int64_t last = std::min(first + kRowsAtOnce, row_end);
    int64_t passes = 0;
    for (int64_t r = first; r < last; ++r) passes += lines_of(c.x, r) / kLines;
    for (int64_t p = panel_begin; p < panel_end; ++p) {
      const auto* weights =
          reinterpret_cast<const int8_t*>(c.weights.data()) + (p * c.weights.steps() + c.begin) * 2 * kBytes;
      // While one panel is used, the next one comes.
      const char* next = reinterpret_cast<const char*>(weights) + c.weights.steps() * 2 * kBytes;
      const int64_t fetched = p + 1 < panel_end ? 2 * kBytes / 64 : 0;
      for (int64_t begin = 0; begin < c.steps; begin += kRun) {
        const int64_t end = std::min(begin + kRun, c.steps);
        int64_t pass = 0;
        for (int64_t r = first; r < last; ++r) {
          int32_t* const sums = c.store ? reinterpret_cast<int32_t*>(c.store) + (p * c.x.row_blocks() + r) * kBlock
                                        : close + (r - first) * kBlock;
          if (begin == 0 && c.part == 0) begin_sums(c.weights.column_sums() + p * 32, sums);
          const int64_t tiles = c.x.tiles(r), lines = lines_of(c.x, r);
          const auto* x = reinterpret_cast<const uint8_t*>(c.x.at(c.part, r)) + begin * tiles * kBytes;
          for (int64_t l = 0; l < lines; l += kLines, ++pass)
            multiply_lines(x + l / 16 * kBytes + l % 16 * 64, tiles * kBytes, weights + begin * 2 * kBytes, end - begin,
                           sums + l * 32, next, fetched * (pass + 1) / passes - fetched * pass / passes);
          if (end == c.steps && c.last) finish_int8_block<false>(c, r, p, sums);
        }
      }
    }
  }
  _mm_sfence();
}

}  // namespace molt::tiles

#include "molt/device/cpu/amx_end-inl.h"

#else

namespace molt::tiles {
void blocks_vnni(const Call&, int64_t, int64_t, int64_t, int64_t) {}
}  // namespace molt::tiles

#endif

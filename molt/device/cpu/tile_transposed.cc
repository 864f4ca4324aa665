// xᵀ u for few columns u: the gradients of low-rank factors, from activations that are packed already.
#include <algorithm>

#include "molt/device/cpu/parallel.h"
#include "molt/device/cpu/tile_gemm.h"

#include <hwy/detect_compiler_arch.h>

#if HWY_ARCH_X86

#include <immintrin.h>

#include "molt/device/cpu/amx_begin-inl.h"
#include "molt/device/cpu/tile_blocks-inl.h"

namespace molt::tiles {
namespace {

/// Column groups [begin, end) of 32 of xᵀ u, for 16 columns of u, whose tiles (16 x 32 tokens) lie in `u`. Pairs of
/// tokens of x are interleaved on the way; that leaves columns in an order of their own, which `put` undoes.
template <class Put>
void transposed_groups(const Rows& x, const bf16* u, int64_t part, int64_t begin, int64_t end, Put&& put) {
  constexpr int64_t kBlocks = 4;  // at a time: few enough to stay in the first-level cache
  alignas(64) bf16 columns[kBlocks * 2 * kTile];
  alignas(64) float sums[16 * 32];
  const char* none = nullptr;
  begin_tiles();
  for (int64_t s = begin; s < end; ++s) {
    for (int64_t first = 0; first < x.row_blocks(); first += kBlocks) {
      const int64_t last = std::min(first + kBlocks, x.row_blocks());
      bf16* pairs = columns;
      for (int64_t block = first; block < last; ++block, pairs += 2 * kTile) {
        const int64_t tiles = x.tiles(block);
        const bf16* from = x.at(part, block) + s * tiles * kTile;
        for (int64_t i = 0; i < tiles * 8; ++i) {
          const __m512i even = _mm512_load_si512(from + i * 64), odd = _mm512_load_si512(from + i * 64 + 32);
          _mm512_store_si512(pairs + i * 32, _mm512_unpacklo_epi16(even, odd));
          _mm512_store_si512(pairs + kTile + i * 32, _mm512_unpackhi_epi16(even, odd));
        }
        for (int64_t i = tiles * 8; i < 16; ++i) {
          _mm512_store_si512(pairs + i * 32, _mm512_setzero_si512());
          _mm512_store_si512(pairs + kTile + i * 32, _mm512_setzero_si512());
        }
      }
      multiply_block<1, 2>(sums, first == 0, {u + first * kTile, columns, last - first}, {}, none, 0);
    }
    put(s, sums);
  }
  end_tiles();
}

}  // namespace

void multiply_transposed(const Rows& x, const ConstMatrix& u, double alpha, bool turned, const Matrix& out,
                         bool accumulate) {
  const int64_t blocks = x.row_blocks(), rank = u.cols;
  const auto tiles = Block::allocate(Device::kCpu, static_cast<size_t>(blocks * kTile) * sizeof(bf16));
  bf16* const to = static_cast<bf16*>(tiles->data());
  const float* const from = static_cast<const float*>(u.data);
  float* const c = static_cast<float*>(out.data);
  const float scale = static_cast<float>(alpha);
  for (int64_t r0 = 0; r0 < rank; r0 += 16) {
    const int64_t live = std::min<int64_t>(16, rank - r0);
    std::fill_n(to, blocks * kTile, bf16());
    for (int64_t t = 0; t < x.rows(); ++t)
      for (int64_t r = 0; r < live; ++r) to[t / 32 * kTile + r * 32 + t % 32] = bf16(from[t * u.ld + r0 + r]);
    for (int64_t part = 0; part < x.parts(); ++part) {
      const int64_t first = x.part_begin(part), count = x.part_begin(part + 1) - first;
      parallel_ranges(count, 1024 / (blocks * 16) + 1, [&](int64_t begin, int64_t end) {
        transposed_groups(x, to, part, begin, end, [&](int64_t s, const float* sums) {
          const int64_t n0 = (first + s) * 32, width = std::min<int64_t>(32, x.k() - n0);
          for (int64_t j = 0; j < width; ++j) {
            const float* sum = sums + j % 8 / 4 * 16 + j / 8 * 4 + j % 4;
            for (int64_t r = 0; r < live; ++r) {
              float& value = turned ? c[(r0 + r) * out.ld + n0 + j] : c[(n0 + j) * out.ld + r0 + r];
              value = scale * sum[r * 32] + (accumulate ? value : 0.0f);
            }
          }
        });
      });
    }
  }
}

}  // namespace molt::tiles

#include "molt/device/cpu/amx_end-inl.h"

#else

namespace molt::tiles {
void multiply_transposed(const Rows&, const ConstMatrix&, double, bool, const Matrix&, bool) {}
}  // namespace molt::tiles

#endif

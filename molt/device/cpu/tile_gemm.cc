// The kernel works on blocks of 32 x 32 of the result: on the matrix unit four tiles of sums, two of x, two of weights.
// x is packed at each call, block of rows by block of rows, into tiles that follow each other in the order in which
// they are read; the weights lie the same way since they were packed. Both stream from the second-level cache.
#include "molt/device/cpu/tile_gemm.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "molt/device/cpu/dnnl.h"
#include "molt/device/cpu/fetch.h"
#include "molt/device/cpu/parallel.h"
#include "molt/device/cpu/scratch.h"
#include "molt/device/cpu/tile_kernels.h"
#include "molt/device/lasting_memory.h"

#include <hwy/detect_compiler_arch.h>

namespace molt::tiles {

namespace {
constexpr int64_t kElements = 512;  // of a tile
constexpr int64_t kMaxSteps = 24;   // tiles along K for which 512 rows leave room in the second-level cache

/// Up to here rows do not fill a tile, and vectors read the weights as fast as memory gives them.
constexpr int64_t kFewRows = 4, kLongestFew = 8192;

/// Bytes of the tiles of activations.
size_t tile_bytes(const Rows& x) {
  return static_cast<size_t>(x.steps() * x.row_blocks() * 2 * kElements) * sizeof(bf16);
}
}  // namespace

Panels::Panels(int64_t k, int64_t n, bool lasting) : k_(k), n_(n), steps_((k + 31) / 32) {
  const size_t bytes = static_cast<size_t>(steps_ * 2 * ((n + 31) / 32) * kElements) * sizeof(bf16);
  block_ = lasting ? allocate_lasting(bytes) : Block::allocate(Device::kCpu, bytes);
}

void Panels::pack(const bf16* plain, bool transposed, int64_t ld) {
  const auto* in = reinterpret_cast<const uint16_t*>(plain);
  auto* const out = static_cast<uint16_t*>(block_->data());
  const int64_t panels = (n_ + 31) / 32;
  parallel_ranges(panels, (int64_t{1} << 15) / (steps_ * 1024) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
      uint16_t* to = out + panel * steps_ * 2 * kElements;
      for (int64_t step = 0; step < steps_; ++step)
        for (int64_t half = 0; half < 2; ++half, to += kElements) {
          const int64_t k0 = step * 32, n0 = panel * 32 + half * 16, ks = std::min<int64_t>(32, k_ - k0),
                        ns = std::clamp<int64_t>(n_ - n0, 0, 16);
          if (ks < 32 || ns < 16) std::memset(to, 0, kElements * sizeof(uint16_t));
          if (transposed) {
            for (int64_t j = 0; j < ns; ++j) {
              const uint16_t* from = in + (n0 + j) * ld + k0;
              for (int64_t i = 0; i + 1 < ks; i += 2) std::memcpy(to + i * 16 + j * 2, from + i, 4);
              if (ks % 2) to[(ks - 1) * 16 + j * 2] = from[ks - 1];
            }
          } else {
            for (int64_t i = 0; i < ks; ++i) {
              const uint16_t* from = in + (k0 + i) * ld + n0;
              for (int64_t j = 0; j < ns; ++j) to[i / 2 * 32 + j * 2 + i % 2] = from[j];
            }
          }
        }
    }
  });
}

Rows::Rows(int64_t rows, int64_t k, int digits) : rows_(rows), k_(k), digits_(digits) {
  const size_t factors = digits ? static_cast<size_t>(row_blocks() * block_rows()) * sizeof(float) : 0;
  block_ = Block::allocate(Device::kCpu, tile_bytes(*this) + factors);
}

int64_t Rows::parts() const {
  const int64_t most = digits_ == 2 ? kMaxSteps / 2 : kMaxSteps;
  return std::max<int64_t>(1, (steps() + most - 1) / most);
}

void Rows::pack_share(const ConstMatrix& x, const float* factors, int64_t thread, int64_t threads) const {
  const int64_t begin = row_blocks() * thread / threads, end = row_blocks() * (thread + 1) / threads;
  digits_ ? quantise_share(x, factors, begin, end) : pack_bf16_share(x, begin, end);
}

Rows Rows::pack(const ConstMatrix& x) {
  const Rows packed(x.rows, x.cols);
  const int64_t shares = std::min<int64_t>(packed.row_blocks(), thread_count());
  parallel_for(shares, x.rows * x.cols > (1 << 15) ? 1 : shares,
               [&](int64_t i) { packed.pack_share(x, nullptr, i, shares); });
  return packed;
}

void Panels::run(const ConstMatrix& x, const Matrix& y, const RunOptions& options) const {
  if (x.rows <= kFewRows && x.cols <= kLongestFew && !options.more_rows)
    return digits_ ? few_int8(x, y, options.bias, options.accumulate)
                   : few_bf16(x, y, options.bias, options.accumulate);
  multiply(&x, Rows(x.rows, x.cols, digits_), y, options);
}
void Panels::run(const Rows& x, const Matrix& y, const RunOptions& options) const {
  MOLT_CHECK(x.digits() == 0 && digits_ == 0, "tiles: rows of another format than the weights");
  multiply(nullptr, x, y, options);
}

namespace {

constexpr size_t kPastCaches = size_t{1} << 19;  // bytes of a result from which on it is written past the caches

/// How the blocks of a result are split among threads: by rows and by columns.
struct Grid {
  int64_t rows = 1, cols = 1;
};
Grid grid_for(int64_t row_blocks, int64_t panels, int64_t threads) {
  Grid best;
  int64_t least = row_blocks * panels + 1;
  // By columns first: each core then reads its part of the weights only.
  for (int64_t cols = std::min(threads, panels); cols >= 1; --cols) {
    const int64_t rows = std::clamp<int64_t>(threads / cols, 1, row_blocks);
    const int64_t work = ((row_blocks + rows - 1) / rows) * ((panels + cols - 1) / cols);
    if (work < least) least = work, best = {rows, cols};
  }
  return best;
}

}  // namespace

void Panels::multiply(const ConstMatrix* plain, const Rows& x, const Matrix& y, const RunOptions& o) const {
  const int64_t parts = x.parts(), row_blocks = x.row_blocks(), panels = (n_ + 31) / 32;
  std::optional<Scratch> store;
  if (parts > 1) store.emplace(panels * row_blocks, kBlock, Dtype::kF32);
  const size_t size = dtype_size(y.dtype);
  const bool lines = reinterpret_cast<uintptr_t>(y.data) % 64 == 0 && static_cast<size_t>(y.ld) * size % 64 == 0 &&
                     static_cast<size_t>(y.rows * y.cols) * size > kPastCaches;
  // Below this many tiles of weights, or products, a second thread costs more than it brings.
  const bool alone = omp_in_parallel() || (panels * steps_ < 256 && panels * steps_ * row_blocks < 512);
  const Grid grid = grid_for(row_blocks, panels, alone ? 1 : thread_count());
  const int64_t threads = grid.rows * grid.cols;
  Kernel& kernel = digits_ == 0 ? blocks_bf16 : unit_available() ? blocks_int8 : blocks_vnni;
  const auto share = [&](int64_t thread, auto&& wait) {
    if (plain) {
      x.pack_share(*plain, row_scales(), thread, threads);
      wait();
    }
    const int64_t i = thread / grid.cols, j = thread % grid.cols;
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t begin = x.part_begin(part), end = x.part_begin(part + 1);
      const Call call{x,
                      *this,
                      part,
                      begin,
                      end - begin,
                      part + 1 == parts,
                      store ? static_cast<float*>(store->view.data) : nullptr,
                      y,
                      o.bias,
                      o.accumulate,
                      lines,
                      o.more_rows,
                      o.more_panels};
      kernel(call, row_blocks * i / grid.rows, row_blocks * (i + 1) / grid.rows, panels * j / grid.cols,
             panels * (j + 1) / grid.cols);
    }
  };
  if (threads == 1) return share(0, [] {});
#pragma omp parallel num_threads(static_cast <int>(threads))
  share(omp_get_thread_num(), [] {
#pragma omp barrier
  });
}

}  // namespace molt::tiles

#if HWY_ARCH_X86

#include <immintrin.h>

#include "molt/device/cpu/amx_begin-inl.h"
#include "molt/device/cpu/tile_blocks-inl.h"

#include "molt/device/cpu/int8_sums-inl.h"  // behind the emulation that is in the above

namespace molt::tiles {
namespace {

template <class T>
void finish_block(const Call& c, int64_t row, int64_t col, const float* sums) {
  const int64_t rows = std::min<int64_t>(32, c.y.rows - row), cols = std::min<int64_t>(32, c.y.cols - col);
  T* y = static_cast<T*>(c.y.data) + row * c.y.ld + col;
  const float* bias = c.bias ? c.bias + col : nullptr;
  if (!c.lines || cols < 32 || (c.accumulate && (bias || sizeof(T) != 4)))
    return finish(sums, rows, cols, bias, c.accumulate, y, c.y.ld);
  if (bias) return finish_lines<T, true, false>(sums, rows, bias, y, c.y.ld);
  if constexpr (sizeof(T) == 4) {
    if (c.accumulate) return finish_lines<T, false, true>(sums, rows, bias, y, c.y.ld);
  }
  finish_lines<T, false, false>(sums, rows, bias, y, c.y.ld);
}

/// Pairs of numbers along K in the last of a panel's steps of bf16.
int64_t last_pairs(const Panels& panels) { return (panels.k() - (panels.steps() - 1) * 32 + 1) / 2; }

/// Blocks of rows [row_begin, row_end) by panels [panel_begin, panel_end).
template <Format kFormat>
void blocks(const Call& c, int64_t row_begin, int64_t row_end, int64_t panel_begin, int64_t panel_end) {
  alignas(64) float sums[kRowsAtOnce * kBlock], wide[kRun * 1024];
  const bool widen = kFormat == Format::kBf16 && !unit_available() && !pairs_are_fast();
  begin_tiles();
  for (int64_t first = row_begin; first < row_end; first += kRowsAtOnce) {
    const int64_t last = std::min(first + kRowsAtOnce, row_end), all = last - first;
    for (int64_t p = panel_begin; p < panel_end; ++p) {
      const bf16* b = c.weights.data() + (p * c.weights.steps() + c.begin) * 2 * kTile;
      const bool narrow_panel = c.y.cols - p * 32 <= 16;
      // While one panel is used, the next one comes.
      const char* next = reinterpret_cast<const char*>(b + c.weights.steps() * 2 * kTile);
      const int64_t lines = p + 1 < panel_end ? (32 + all - 1) / all : 0;
      for (int64_t begin = 0; begin < c.steps; begin += kRun) {
        const int64_t end = std::min(begin + kRun, c.steps);
        const bool widened = widen && all > 1;
        if (widened) widen_columns(b + begin * 2 * kTile, end - begin, wide);
        for (int64_t r = first; r < last; ++r) {
          const bool low = c.x.tiles(r) == 1, fresh = begin == 0 && c.part == 0;
          Run run{c.x.at(c.part, r) + begin * c.x.tiles(r) * kTile, b + begin * 2 * kTile, end - begin};
          if (c.last && end == c.steps) run.pairs = last_pairs(c.weights);
          if (widened) run.wide = wide;
          Run more;
          if (kFormat == Format::kBf16 && c.more_rows && c.last && end == c.steps) {
            more.steps = c.more_panels->steps();
            more.rows = c.more_rows->at(0, r), more.columns = c.more_panels->data() + p * more.steps * 2 * kTile;
            more.pairs = last_pairs(*c.more_panels);
          }
          float* to = c.store ? c.store + (p * c.x.row_blocks() + r) * kBlock : sums + (r - first) * kBlock;
          if (narrow_panel)
            low ? multiply_block<1, 1, kFormat>(to, fresh, run, more, next, lines)
                : multiply_block<2, 1, kFormat>(to, fresh, run, more, next, lines);
          else
            low ? multiply_block<1, 2, kFormat>(to, fresh, run, more, next, lines)
                : multiply_block<2, 2, kFormat>(to, fresh, run, more, next, lines);
          if (end < c.steps || !c.last) continue;
          if constexpr (kFormat == Format::kInt8) {
            finish_int8_block<true>(c, r, p, reinterpret_cast<const int32_t*>(to));
            continue;
          }
          c.y.dtype == Dtype::kF32 ? finish_block<float>(c, r * 32, p * 32, to)
                                   : finish_block<bf16>(c, r * 32, p * 32, to);
        }
      }
    }
  }
  end_tiles();
  _mm_sfence();
}

/// kRows rows, `steps` · 32 numbers each, one after the other, by one panel: sums as rows of 32. Each sum is kept in
/// kSplit parts, as the unit takes several cycles from one to the next.
template <int kRows, class Fetch>
void few_rows_by_panel(Fetch fetch, const uint16_t* x, const bf16* b, int64_t steps, float* sums) {
  constexpr int kSplit = kRows == 1 ? 4 : 2;
  __m512 sum[kRows][2][kSplit];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h)
#pragma GCC unroll 4
      for (int i = 0; i < kSplit; ++i) sum[r][h][i] = _mm512_setzero_ps();
  for (int64_t s = 0; s < steps; ++s)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h, b += kTile)  // in the order of memory
      for (int64_t i = 0; i < 16; i += kSplit) {
#pragma GCC unroll 4
        for (int j = 0; j < kSplit; ++j) {
          const bf16* at = b + (i + j) * 32;
          fetch.line(at);
          const auto columns = reinterpret_cast<__m512bh>(_mm512_load_si512(at));
#pragma GCC unroll 4
          for (int r = 0; r < kRows; ++r) {
            int32_t pair;
            std::memcpy(&pair, x + (r * steps + s) * 32 + 2 * (i + j), sizeof(pair));
            const auto factor = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
            sum[r][h][j] = _mm512_dpbf16_ps(sum[r][h][j], columns, factor);
          }
        }
      }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      __m512 all = _mm512_add_ps(sum[r][h][0], sum[r][h][1]);
      if constexpr (kSplit == 4) all = _mm512_add_ps(all, _mm512_add_ps(sum[r][h][2], sum[r][h][3]));
      _mm512_store_ps(sums + r * 32 + h * 16, all);
    }
}

}  // namespace

void Rows::pack_bf16_share(const ConstMatrix& x, int64_t first, int64_t last) const {
  for (int64_t part = 0; part < parts(); ++part) {
    const int64_t begin = part_begin(part) * 32, end = std::min(k_, part_begin(part + 1) * 32);
    const ConstMatrix columns = x.col_range(begin, end - begin);
    for (int64_t r = first; r < last; ++r)
      x.dtype == Dtype::kF32 ? pack_rows<float>(columns, r * 32, tiles(r), at(part, r))
                             : pack_rows<bf16>(columns, r * 32, tiles(r), at(part, r));
  }
}

void Panels::few_bf16(const ConstMatrix& x, const Matrix& y, const float* bias, bool accumulate) const {
  const int64_t steps = steps_, width = steps * 32, panels = (n_ + 31) / 32;
  alignas(64) uint16_t rows[kFewRows * kLongestFew];  // bits: bf16 would be cleared first
  for (int64_t r = 0; r < x.rows; ++r)
    for (int64_t s = 0; s < steps; ++s) {
      const int64_t left = x.cols - s * 32;
      _mm512_store_si512(rows + r * width + s * 32,
                         x.dtype == Dtype::kF32 ? load_row(static_cast<const float*>(x.data) + r * x.ld + s * 32, left)
                                                : load_row(static_cast<const bf16*>(x.data) + r * x.ld + s * 32, left));
    }
  parallel_ranges(panels, 64 / steps + 1, [&](int64_t begin, int64_t end) {
    alignas(64) float sums[kFewRows * 32];
    for (int64_t p = begin; p < end; ++p) {
      const bf16* b = data() + p * steps * 2 * kTile;
      with_fetch([&](auto fetch) {
        switch (x.rows) {
          case 1:
            return few_rows_by_panel<1>(fetch, rows, b, steps, sums);
          case 2:
            return few_rows_by_panel<2>(fetch, rows, b, steps, sums);
          case 3:
            return few_rows_by_panel<3>(fetch, rows, b, steps, sums);
          default:
            return few_rows_by_panel<4>(fetch, rows, b, steps, sums);
        }
      });
      const int64_t cols = std::min<int64_t>(32, y.cols - p * 32);
      const float* add = bias ? bias + p * 32 : nullptr;
      if (y.dtype == Dtype::kF32)
        finish(sums, x.rows, cols, add, accumulate, static_cast<float*>(y.data) + p * 32, y.ld);
      else
        finish(sums, x.rows, cols, add, accumulate, static_cast<bf16*>(y.data) + p * 32, y.ld);
    }
  });
}

void low_rank_block(const Call& c, int64_t r, int64_t p, float* sums) {
  const int64_t row = r * c.x.block_rows(), block = row / 32, tiles = c.more_rows->tiles(block);
  const int64_t steps = c.more_panels->steps();
  const Run run{c.more_rows->at(0, block) + row % 32 / 16 * kTile, c.more_panels->data() + p * steps * 2 * kTile, steps,
                tiles * kTile, last_pairs(*c.more_panels)};
  const char* none = nullptr;
  c.x.block_rows() == 32 && tiles == 2 ? multiply_block<2, 2>(sums, true, run, {}, none, 0)
                                       : multiply_block<1, 2>(sums, true, run, {}, none, 0);
}

void blocks_bf16(const Call& c, int64_t row_begin, int64_t row_end, int64_t panel_begin, int64_t panel_end) {
  blocks<Format::kBf16>(c, row_begin, row_end, panel_begin, panel_end);
}
void blocks_int8(const Call& c, int64_t row_begin, int64_t row_end, int64_t panel_begin, int64_t panel_end) {
  blocks<Format::kInt8>(c, row_begin, row_end, panel_begin, panel_end);
}

}  // namespace molt::tiles

#include "molt/device/cpu/amx_end-inl.h"

#else

namespace molt::tiles {
void Rows::pack_bf16_share(const ConstMatrix&, int64_t, int64_t) const {}
void Panels::few_bf16(const ConstMatrix&, const Matrix&, const float*, bool) const {}
void low_rank_block(const Call&, int64_t, int64_t, float*) {}
void blocks_bf16(const Call&, int64_t, int64_t, int64_t, int64_t) {}
void blocks_int8(const Call&, int64_t, int64_t, int64_t, int64_t) {}
}  // namespace molt::tiles

#endif

// Kernels for products with one small dimension. Each element of C is one chain of fused multiply-adds in an order that
// depends on the shape alone, so the bits do not depend on how the work is split.
#include "molt/device/cpu/gemm_skinny.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "molt/device/cpu/parallel.h"
#include "molt/device/cpu/scratch.h"

#include "molt/device/cpu/simd.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "molt/device/cpu/gemm_skinny.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace molt::skinny::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

// Accumulators must fit the registers: 32 with AVX-512 and NEON, 16 elsewhere.
constexpr bool kManyRegisters = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON;
constexpr int kBroadcastRows = kManyRegisters ? 8 : 4, kBroadcastVectors = 3;
constexpr int kDotRows = kManyRegisters ? 4 : 3, kDotColumns = 4;
/// Rows of B per pass of the broadcast kernel: with 3 vectors a block stays in the first-level cache.
constexpr int64_t kDepth = 128;

template <class D, class T>
HWY_INLINE hn::Vec<D> load(D d, const T* p) {
  return hn::LoadU(d, p);
}
template <class D>
HWY_INLINE hn::Vec<D> load(D d, const bf16* p) {
  const hn::Rebind<uint16_t, D> halves;
  const hn::RebindToUnsigned<D> words;
  return hn::BitCast(d,
                     hn::ShiftLeft<16>(hn::PromoteTo(words, hn::LoadU(halves, reinterpret_cast<const uint16_t*>(p)))));
}

template <class D>
HWY_INLINE hn::Vec<D> load(D d, const int8_t* p) {
  const hn::Rebind<int8_t, D> bytes;
  const hn::RebindToSigned<D> words;
  return hn::ConvertTo(d, hn::PromoteTo(words, hn::LoadU(bytes, p)));
}

template <class T>
struct Tile {  // a product whose types and strides are settled
  int64_t k;
  const T* a;
  int64_t a_row, a_col;
  T alpha, beta;
};

/// kRows rows by kVectors vectors of C.
template <int kRows, int kVectors, class T, class TB>
HWY_INLINE void broadcast_tile(const Tile<T>& p, const TB* b, int64_t ldb, T* c, int64_t ldc) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  hn::Vec<decltype(d)> sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::Zero(d);
  for (int64_t l = 0; l < p.k; ++l) {
    hn::Vec<decltype(d)> row[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) row[v] = load(d, b + l * ldb + v * lanes);
    const T* a = p.a + l * p.a_col;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const auto factor = hn::Set(d, a[r * p.a_row]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(factor, row[v], sum[r][v]);
    }
  }
  const auto alpha = hn::Set(d, p.alpha), beta = hn::Set(d, p.beta);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      T* to = c + r * ldc + v * lanes;
      auto value = hn::Mul(alpha, sum[r][v]);
      if (p.beta != T(0)) value = hn::MulAdd(beta, hn::LoadU(d, to), value);
      hn::StoreU(value, d, to);
    }
}

/// All rows by kVectors vectors.
template <int kVectors, class T, class TB>
void broadcast_strip(Tile<T> p, int64_t rows, const TB* b, int64_t ldb, T* c, int64_t ldc) {
  while (rows > 0) {
    const int64_t step = rows >= kBroadcastRows ? kBroadcastRows : rows >= 4 ? 4 : 1;
    if (step == kBroadcastRows)
      broadcast_tile<kBroadcastRows, kVectors>(p, b, ldb, c, ldc);
    else if (step == 4)
      broadcast_tile<4, kVectors>(p, b, ldb, c, ldc);
    else
      broadcast_tile<1, kVectors>(p, b, ldb, c, ldc);
    p.a += step * p.a_row, c += step * ldc, rows -= step;
  }
}

/// Rows [row, row_end) and columns [col, col_end) of C; col_end - col is a multiple of a vector.
template <class T, class TB>
void broadcast_block(const Broadcast& p, int64_t row, int64_t row_end, int64_t col, int64_t col_end) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  const T* a = static_cast<const T*>(p.a);
  const TB* b = static_cast<const TB*>(p.b);
  T* c = static_cast<T*>(p.c);
  // Few rows per pass where K is small, so that the strip of A is hot and C streams; all of K's rows otherwise.
  const int64_t rows_per_pass = 64;
  for (int64_t l = 0; l < p.k; l += kDepth) {
    Tile<T> tile{std::min(kDepth, p.k - l),
                 a + l * p.a_col,
                 p.a_row,
                 p.a_col,
                 static_cast<T>(p.alpha),
                 l == 0 ? static_cast<T>(p.beta) : T(1)};
    for (int64_t r = row; r < row_end; r += rows_per_pass) {
      const int64_t rows = std::min(rows_per_pass, row_end - r);
      tile.a = a + l * p.a_col + r * p.a_row;
      int64_t j = col;
      for (; j + kBroadcastVectors * lanes <= col_end; j += kBroadcastVectors * lanes)
        broadcast_strip<kBroadcastVectors>(tile, rows, b + l * p.ldb + j, p.ldb, c + r * p.ldc + j, p.ldc);
      for (; j < col_end; j += lanes)
        broadcast_strip<1>(tile, rows, b + l * p.ldb + j, p.ldb, c + r * p.ldc + j, p.ldc);
    }
  }
}

template <class T, class TB>
void broadcast(const Broadcast& p) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  const int64_t vectors = p.n / lanes;
  // By columns where there are few rows: each thread then reads its part of B once.
  const int64_t work = std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(1, p.k));
  if (p.m <= 64)
    parallel_ranges(vectors, std::max<int64_t>(1, work / (p.m * lanes)),
                    [&](int64_t begin, int64_t end) { broadcast_block<T, TB>(p, 0, p.m, begin * lanes, end * lanes); });
  else if (vectors > 0)
    parallel_ranges((p.m + 7) / 8, std::max<int64_t>(1, work / (8 * p.n)), [&](int64_t begin, int64_t end) {
      broadcast_block<T, TB>(p, begin * 8, std::min(end * 8, p.m), 0, vectors * lanes);
    });
  const int64_t rest = p.n - vectors * lanes;
  if (rest == 0) return;
  // The last columns, padded to a vector.
  std::vector<T> b(static_cast<size_t>(p.k * lanes)), c(static_cast<size_t>(p.m * lanes));
  for (int64_t l = 0; l < p.k; ++l)
    for (int64_t j = 0; j < rest; ++j)
      b[static_cast<size_t>(l * lanes + j)] =
          static_cast<T>(static_cast<const TB*>(p.b)[l * p.ldb + vectors * lanes + j]);
  T* last = static_cast<T*>(p.c) + vectors * lanes;
  if (p.beta != 0)
    for (int64_t r = 0; r < p.m; ++r)
      std::copy(last + r * p.ldc, last + r * p.ldc + rest, &c[static_cast<size_t>(r * lanes)]);
  Broadcast q = p;
  q.n = lanes, q.b = b.data(), q.ldb = lanes, q.c = c.data(), q.ldc = lanes;
  broadcast_block<T, T>(q, 0, p.m, 0, lanes);
  for (int64_t r = 0; r < p.m; ++r) std::copy_n(&c[static_cast<size_t>(r * lanes)], rest, last + r * p.ldc);
}

/// kRows x kColumns sums of products of whole vectors along K. A single sum is four, as one would wait for itself.
template <int kRows, int kColumns, class T, class TA>
HWY_INLINE void dot_tile(const TA* a, int64_t lda, const T* b, int64_t ldb, int64_t k, T (&out)[kRows][kColumns]) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  constexpr int kChains = kRows * kColumns == 1 ? 4 : 1;
  hn::Vec<decltype(d)> sum[kRows][kColumns];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) sum[r][j] = hn::Zero(d);
  int64_t l = 0;
  if constexpr (kChains > 1) {
    hn::Vec<decltype(d)> chain[kChains];
#pragma GCC unroll 4
    for (auto& c : chain) c = hn::Zero(d);
    for (; l + kChains * lanes <= k; l += kChains * lanes)
#pragma GCC unroll 4
      for (int c = 0; c < kChains; ++c)
        chain[c] = hn::MulAdd(load(d, a + l + c * lanes), hn::LoadU(d, b + l + c * lanes), chain[c]);
    sum[0][0] = hn::Add(hn::Add(chain[0], chain[1]), hn::Add(chain[2], chain[3]));
  }
  for (; l + lanes <= k; l += lanes) {
    hn::Vec<decltype(d)> row[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) row[r] = load(d, a + r * lda + l);
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) {
      const auto column = hn::LoadU(d, b + j * ldb + l);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) sum[r][j] = hn::MulAdd(row[r], column, sum[r][j]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) out[r][j] = hn::GetLane(hn::SumOfLanes(d, sum[r][j]));
  for (; l < k; ++l)
    for (int r = 0; r < kRows; ++r)
      for (int j = 0; j < kColumns; ++j) out[r][j] += static_cast<T>(a[r * lda + l]) * b[j * ldb + l];
}

template <int kRows, int kColumns, class T, class TA>
void dot_and_store(const Dot& p, int64_t row, int64_t col) {
  T sums[kRows][kColumns];
  dot_tile<kRows, kColumns>(static_cast<const TA*>(p.a) + row * p.lda, p.lda, static_cast<const T*>(p.b) + col * p.ldb,
                            p.ldb, p.k, sums);
  for (int r = 0; r < kRows; ++r)
    for (int j = 0; j < kColumns; ++j) {
      T* to = static_cast<T*>(p.c) + (row + r) * p.c_row + (col + j) * p.c_col;
      const T value = static_cast<T>(p.alpha) * sums[r][j];
      *to = p.beta == 0 ? value : value + static_cast<T>(p.beta) * *to;
    }
}

/// All columns of some rows.
template <int kRows, class T, class TA>
void dot_rows(const Dot& p, int64_t row) {
  int64_t col = 0;
  for (; col + kDotColumns <= p.n; col += kDotColumns) dot_and_store<kRows, kDotColumns, T, TA>(p, row, col);
  for (; col < p.n; ++col) dot_and_store<kRows, 1, T, TA>(p, row, col);
}

template <class T, class TA>
void dot(const Dot& p) {
  // A single column takes row by row, in the order of memory.
  const int64_t group = p.n == 1 ? 1 : kDotRows;
  const int64_t work = std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(1, p.k * p.n * group));
  parallel_ranges((p.m + group - 1) / group, work, [&](int64_t begin, int64_t end) {
    int64_t row = begin * group;
    const int64_t row_end = std::min(end * group, p.m);
    for (; group > 1 && row + group <= row_end; row += group) dot_rows<kDotRows, T, TA>(p, row);
    for (; row < row_end; ++row) dot_rows<1, T, TA>(p, row);
  });
}

constexpr int kPanelRows = kManyRegisters ? 6 : 2, kPanelVectors = 4;
constexpr int64_t kLine = 64 / sizeof(float);
/// How far ahead of its use a panel is fetched: the hardware's look-ahead ends at each page.
constexpr int64_t kAhead = 1024 / sizeof(float);
/// Where more rows than one tile takes go over a panel, they do so over this many of its rows at a time, which stay in
/// the first-level cache while the next ones come.
constexpr int64_t kPanelDepth = 64;

/// Some terms of the sums of one tile.
struct PanelStretch {
  const float* a;  // [term][kRows]
  const float* b;
  int64_t width, terms;
  const float* fetch;  // what is fetched beside the first term: `lines` lines
  int64_t lines;
  float* sums;  // [kRows][kVectors]
  bool fresh;   // the first terms
};

/// kRows rows by kVectors vectors.
template <int kRows, int kVectors>
void panel_tile(const PanelStretch& p) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), width = p.width, lines = p.lines;
  const float *HWY_RESTRICT a = p.a, *HWY_RESTRICT b = p.b, *fetch = p.fetch;
  hn::Vec<decltype(d)> sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      sum[r][v] = p.fresh ? hn::Zero(d) : hn::Load(d, p.sums + (r * kVectors + v) * lanes);
  for (int64_t l = 0; l < p.terms; ++l, a += kRows, b += width, fetch += width) {
    for (int64_t i = 0; i < lines; ++i) __builtin_prefetch(fetch + i * kLine, 0, 3);
    hn::Vec<decltype(d)> row[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) row[v] = hn::LoadU(d, b + v * lanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const auto factor = hn::Set(d, a[r]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(factor, row[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) hn::Store(sum[r][v], d, p.sums + (r * kVectors + v) * lanes);
}

/// The tile of a number of rows.
template <int kVectors>
void panel_tile_of(int64_t rows, const PanelStretch& p) {
  switch (rows) {
    case 1:
      return panel_tile<1, kVectors>(p);
    case 2:
      return panel_tile<2, kVectors>(p);
    case 3:
      return panel_tile < kManyRegisters ? 3 : 2, kVectors > (p);
    case 4:
      return panel_tile < kManyRegisters ? 4 : 2, kVectors > (p);
    case 5:
      return panel_tile < kManyRegisters ? 5 : 2, kVectors > (p);
    default:
      return panel_tile<kPanelRows, kVectors>(p);
  }
}

/// Some panels for all rows. `a`: A tile by tile, each [term][row].
template <int kVectors>
void panel_columns(const Panelled& p, const float* a, const float* b, int64_t col, float* sums) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<float>())), step = kVectors * lanes;
  const bool one = p.m <= kPanelRows;
  const int64_t depth = one ? p.k : kPanelDepth, lines = (step + kLine - 1) / kLine;
  const int64_t tiles = (p.m + kPanelRows - 1) / kPanelRows;
  for (int64_t first = 0; first < p.k; first += depth) {
    const int64_t terms = std::min(depth, p.k - first);
    const float* const from = b + first * p.width;
    int64_t fetched = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t row = tile * kPanelRows, rows = std::min<int64_t>(kPanelRows, p.m - row);
      // Tiles share the work of fetching what comes next.
      const int64_t mine = (lines - fetched + tiles - tile - 1) / (tiles - tile);
      panel_tile_of<kVectors>(
          rows, {a + row * p.k + first * rows, from, p.width, terms,
                 from + (one ? kAhead : depth * p.width) + fetched * kLine, mine, sums + row * step, first == 0});
      fetched += mine;
    }
  }
  const int64_t live = std::min(step, p.n - col);
  for (int64_t row = 0; row < p.m; ++row) {
    const float* HWY_RESTRICT sum = sums + row * step;
    float* HWY_RESTRICT to = p.c + row * p.ldc + col;
    if (p.bias)
      for (int64_t j = 0; j < live; ++j) to[j] = (p.accumulate ? to[j] : 0.0f) + (sum[j] + p.bias[col + j]);
    else
      for (int64_t j = 0; j < live; ++j) to[j] = (p.accumulate ? to[j] : 0.0f) + sum[j];
  }
}

void run_panelled(const Panelled& p) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<float>()));
  std::optional<Scratch> packed;
  const float* a = p.a;
  if (p.m > 1) {
    packed.emplace(p.m, p.k, Dtype::kF32);
    float* to = static_cast<float*>(packed->view.data);
    a = to;
    for (int64_t row = 0; row < p.m; row += kPanelRows) {
      const int64_t rows = std::min<int64_t>(kPanelRows, p.m - row);
      for (int64_t l = 0; l < p.k; ++l)
        for (int64_t r = 0; r < rows; ++r) *to++ = p.a[(row + r) * p.lda + l];
    }
  }
  parallel_ranges((p.n + p.width - 1) / p.width, (1 << 15) / (p.k * p.width) + 1, [&](int64_t begin, int64_t end) {
    alignas(64) float sums[Panelled::kMostRows * kPanelVectors * HWY_MAX_BYTES / sizeof(float)];
    for (int64_t panel = begin; panel < end; ++panel) {
      const float* b = p.b + panel * p.panel;
      const int64_t stop = std::min((panel + 1) * p.width, p.n);
      for (int64_t col = panel * p.width; col < stop;) {
        const bool wide = stop - col > (kPanelVectors - 1) * lanes;
        wide ? panel_columns<kPanelVectors>(p, a, b, col, sums) : panel_columns<1>(p, a, b, col, sums);
        const int64_t step = (wide ? kPanelVectors : 1) * lanes;
        b += step, col += step;
      }
    }
  });
}

void run_broadcast(const Broadcast& p) {
  if (p.dtype == Dtype::kF64) return broadcast<double, double>(p);
  p.b_dtype == Dtype::kBf16 ? broadcast<float, bf16>(p) : broadcast<float, float>(p);
}
void run_dot(const Dot& p) {
  if (p.dtype == Dtype::kF64) return dot<double, double>(p);
  if (p.a_dtype == Dtype::kI8) return dot<float, int8_t>(p);
  p.a_dtype == Dtype::kBf16 ? dot<float, bf16>(p) : dot<float, float>(p);
}

}  // namespace
}  // namespace molt::skinny::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace molt::skinny {
namespace {
HWY_EXPORT(run_broadcast);
HWY_EXPORT(run_dot);
HWY_EXPORT(run_panelled);
}  // namespace

void run(const Broadcast& p) {
  static const auto best = MOLT_BEST_TARGET(run_broadcast);
  (*best)(p);
}
void run(const Dot& p) {
  static const auto best = MOLT_BEST_TARGET(run_dot);
  (*best)(p);
}
void run(const Panelled& p) {
  static const auto best = MOLT_BEST_TARGET(run_panelled);
  (*best)(p);
}

}  // namespace molt::skinny
#endif

// What one thread's share of a product is told, and the kernels it may go to. Private to tile_gemm.h's products.
#pragma once

#include "molt/device/cpu/tile_gemm.h"

namespace molt::tiles {

struct Call {
  const Rows& x;
  const Panels& weights;
  int64_t part, begin, steps;  // along K: this part of a long sum
  bool last;                   // of the parts
  float* store;                // where sums wait for the next part, block by block; null where there is one only
  Matrix y;
  const float* bias;
  bool accumulate;
  bool lines;             // rows of y are whole cache lines, and past what caches hold
  const Rows* more_rows;  // the second product, with the last part
  const Panels* more_panels;
};

/// Tiles along K that are treated together: 32 columns of weights then stay in the first-level cache, while rows come
/// from the second. Rows of sums that wait for the next run are kept close by.
constexpr int64_t kRun = 8, kRowsAtOnce = 16;

/// What a low-rank addition gives to block r of panel p of a product of integers: rows of 32 sums, for as many rows as
/// the block has of activations. Where there is a matrix unit, from inside blocks_int8 only.
void low_rank_block(const Call& call, int64_t r, int64_t p, float* sums);

/// Blocks of rows [row_begin, row_end) by panels [panel_begin, panel_end): bf16 on the matrix unit or on vectors, 8-bit
/// integers on the matrix unit, and 8-bit integers on vectors.
using Kernel = void(const Call& call, int64_t row_begin, int64_t row_end, int64_t panel_begin, int64_t panel_end);
Kernel blocks_bf16, blocks_int8, blocks_vnni;

}  // namespace molt::tiles

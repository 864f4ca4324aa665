// Products in which one dimension is small: kernels that read a large operand once, as it lies in memory. Private to
// gemm.cc, onednn_panel.cc and weight_rows.cc. Large operands may be bf16, or 8-bit integers for Dot, where the rest is
// f32; everything else has the type of the sums.
#pragma once

#include <cstdint>

#include "molt/device/dtype.h"

namespace molt::skinny {

/// C (M,N) = alpha · A (M,K) · B (K,N) + beta · C, vectorised along N. Best where K or M is small.
struct Broadcast {
  int64_t m = 0, n = 0, k = 0;
  const void* a = nullptr;  // element (i,l) at i * a_row + l * a_col
  int64_t a_row = 0, a_col = 0;
  const void* b = nullptr;  // row-major
  int64_t ldb = 0;
  void* c = nullptr;  // row-major
  int64_t ldc = 0;
  double alpha = 1, beta = 0;
  Dtype dtype = Dtype::kF32, b_dtype = Dtype::kF32;
};
void run(const Broadcast& p);

/// C (M,N) = alpha · A (M,K) · Bᵀ + beta · C with B (N,K), vectorised along K. Best where N is small.
struct Dot {
  int64_t m = 0, n = 0, k = 0;
  const void* a = nullptr;  // row-major
  int64_t lda = 0;
  const void* b = nullptr;  // row-major
  int64_t ldb = 0;
  void* c = nullptr;  // element (i,j) at i * c_row + j * c_col
  int64_t c_row = 0, c_col = 0;
  double alpha = 1, beta = 0;
  Dtype dtype = Dtype::kF32, a_dtype = Dtype::kF32;
};
void run(const Dot& p);

/// C (M,N) = A (M,K) · B + bias, or C += …, all f32, B in panels of `width` columns, each (K,width) row by row: how
/// oneDNN packs weights. Bound by the bandwidth of B where M is small: M at most kMostRows.
struct Panelled {
  static constexpr int64_t kMostRows = 16;
  int64_t m = 0, n = 0, k = 0;
  const float* a = nullptr;  // row-major
  int64_t lda = 0;
  const float* b = nullptr;
  int64_t width = 0, panel = 0;  // columns of a panel; from one panel to the next
  float* c = nullptr;            // row-major
  int64_t ldc = 0;
  const float* bias = nullptr;
  bool accumulate = false;
};
void run(const Panelled& p);

}  // namespace molt::skinny

// Raw views of matrices in memory: what the device room computes on. Row-major, the last dimension dense, `ld` elements
// from one row to the next. Views own nothing.
#pragma once

#include <cstdint>

#include "molt/device/dtype.h"

namespace molt {

struct ConstMatrix {
  const void* data = nullptr;
  int64_t rows = 0, cols = 0, ld = 0;
  Dtype dtype = Dtype::kF32;

  /// Whether the rows follow each other without gaps.
  bool dense() const { return ld == cols || rows <= 1; }
  /// `count` rows from `begin` on.
  ConstMatrix row_range(int64_t begin, int64_t count) const {
    return {static_cast<const char*>(data) + static_cast<size_t>(begin * ld) * dtype_size(dtype), count, cols, ld,
            dtype};
  }
  /// `count` columns from `begin` on.
  ConstMatrix col_range(int64_t begin, int64_t count) const {
    return {static_cast<const char*>(data) + static_cast<size_t>(begin) * dtype_size(dtype), rows, count, ld, dtype};
  }
};

struct Matrix {
  void* data = nullptr;
  int64_t rows = 0, cols = 0, ld = 0;
  Dtype dtype = Dtype::kF32;

  bool dense() const { return ld == cols || rows <= 1; }
  Matrix row_range(int64_t begin, int64_t count) const {
    return {static_cast<char*>(data) + static_cast<size_t>(begin * ld) * dtype_size(dtype), count, cols, ld, dtype};
  }
  Matrix col_range(int64_t begin, int64_t count) const {
    return {static_cast<char*>(data) + static_cast<size_t>(begin) * dtype_size(dtype), rows, count, ld, dtype};
  }
  operator ConstMatrix() const { return {data, rows, cols, ld, dtype}; }
};

/// A dense view of typed memory.
template <class T>
ConstMatrix matrix_of(const T* data, int64_t rows, int64_t cols) {
  return {data, rows, cols, cols, kDtypeOf<T>};
}
template <class T>
Matrix matrix_of(T* data, int64_t rows, int64_t cols) {
  return {data, rows, cols, cols, kDtypeOf<T>};
}

}  // namespace molt

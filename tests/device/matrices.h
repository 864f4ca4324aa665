// Random matrices of any element type and stride, and products in double to hold others against.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "molt/base/rng.h"
#include "molt/device/convert.h"

namespace molt::test {

/// Owns a matrix whose rows are `ld` apart; the gaps hold NaN, so that reading them spoils results and writing them
/// shows.
struct Owned {
  Owned(int64_t rows, int64_t cols, Dtype dtype, int64_t gap = 0)
      : memory(static_cast<size_t>(rows * (cols + gap)) * dtype_size(dtype), '\xff'),
        view{memory.data(), rows, cols, cols + gap, dtype} {}
  std::vector<char> memory;  // all bits set is a NaN in every floating type
  Matrix view;

  /// Normal values, rounded to the type.
  Owned& randomise(uint64_t seed) {
    const Rng rng(mix_keys(seed, 17));
    std::vector<double> values(static_cast<size_t>(view.rows * view.cols));
    for (size_t i = 0; i < values.size(); ++i) values[i] = rng.normal(i);
    convert(matrix_of(values.data(), view.rows, view.cols), view);
    return *this;
  }
  std::vector<double> values() const { return read(view); }
  static std::vector<double> read(const ConstMatrix& m) {
    std::vector<double> values(static_cast<size_t>(m.rows * m.cols));
    convert(m, matrix_of(values.data(), m.rows, m.cols));
    return values;
  }
  bool gaps_untouched() const {
    const size_t size = dtype_size(view.dtype);
    for (int64_t r = 0; r < view.rows; ++r)
      for (size_t b = static_cast<size_t>(r * view.ld + view.cols) * size;
           b < static_cast<size_t>((r + 1) * view.ld) * size; ++b)
        if (memory[b] != '\xff') return false;
    return true;
  }
};

/// The values, rounded to a type.
inline std::vector<double> rounded(std::vector<double> values, Dtype dtype) {
  Owned m(1, static_cast<int64_t>(values.size()), dtype);
  convert(matrix_of(values.data(), 1, m.view.cols), m.view);
  return m.values();
}

/// A product in double, and the sum of the magnitudes of its terms, by which errors of any order of summation are
/// bounded.
struct Reference {
  std::vector<double> value, magnitude;

  /// += op(A) op(B) with A (M,K) and B (K,N) after their transposition.
  void add_product(const std::vector<double>& a, bool trans_a, const std::vector<double>& b, bool trans_b, int64_t m,
                   int64_t n, int64_t k, double alpha = 1) {
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j)
        for (int64_t l = 0; l < k; ++l) {
          const double term = alpha * a[static_cast<size_t>(trans_a ? l * m + i : i * k + l)] *
                              b[static_cast<size_t>(trans_b ? j * k + l : l * n + j)];
          value[static_cast<size_t>(i * n + j)] += term;
          magnitude[static_cast<size_t>(i * n + j)] += std::abs(term);
        }
  }
  explicit Reference(std::vector<double> start) : value(std::move(start)), magnitude(value.size()) {
    for (size_t i = 0; i < value.size(); ++i) magnitude[i] = std::abs(value[i]);
  }
  /// += bias in every row.
  void add_row(const std::vector<double>& bias) {
    for (size_t i = 0; i < value.size(); ++i) {
      value[i] += bias[i % bias.size()];
      magnitude[i] += std::abs(bias[i % bias.size()]);
    }
  }
};

/// Half the distance from 1 to the next number.
inline double unit_roundoff(Dtype dtype) {
  return dtype == Dtype::kF64 ? 0x1p-53 : dtype == Dtype::kF32 ? 0x1p-24 : dtype == Dtype::kF16 ? 0x1p-11 : 0x1p-8;
}

/// A sum of K products in any order, with or without fused multiply-add, errs by at most about K roundings of the sum
/// of magnitudes (Higham, Accuracy and Stability, §3.1); storing adds one rounding of the result's type.
inline void expect_close(const std::vector<double>& got, const Reference& want, int64_t terms, Dtype sums,
                         Dtype stored) {
  ASSERT_EQ(got.size(), want.value.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const double bound = static_cast<double>(terms + 4) * unit_roundoff(sums) * want.magnitude[i] +
                         1.01 * unit_roundoff(stored) * std::abs(want.value[i]) + 1e-30;
    ASSERT_NEAR(got[i], want.value[i], bound) << "element " << i;
  }
}

}  // namespace molt::test

// Rows of a matrix by number: y[r] = x[rows[r]]. Only labelled positions reach the head this way, and an embedding is
// the same thing with token ids.
#pragma once

#include <cstdint>
#include <vector>

#include "molt/autograd/tape.h"
#include "molt/device/kernel_table.h"

namespace molt::ops {

struct GatherRowsKernels {
  /// y (R, D) <- rows of x (N, D). Of the same dtype, whatever it is; or y f32 or f64 and x any floating dtype.
  void (*forward)(const Tensor& x, const std::vector<int64_t>& rows, const Tensor& y) = nullptr;
  /// dx[rows[r]] += dy[r], in the order of r whatever the thread count; rows[r] < 0 are left out. Where dx does not
  /// accumulate it is zeroed first. f32 or f64.
  void (*backward)(const Tensor& dy, const std::vector<int64_t>& rows, const GradOut& dx) = nullptr;
};
inline constinit KernelTable<GatherRowsKernels> gather_rows_kernels{"gather_rows"};

struct GatherRows {
  static constexpr const char* kName = "gather_rows";
  std::vector<int64_t> rows{};  // kept for backward; x is not

  Tensor forward(const Needs& needs, const Tensor& x);
  void backward(const Tensor& dy, Grads& d) const;
};

/// x (T, D), R row numbers (repeats allowed) -> (R, D) of x's dtype. A row number outside x throws InternalError.
inline Var gather_rows(const Var& x, std::vector<int64_t> rows) { return record(GatherRows{std::move(rows)}, x); }

}  // namespace molt::ops

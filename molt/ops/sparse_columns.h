// A product with few columns of a matrix: y += x[:, S] · deltaᵀ. This is how SDT trains some input channels of a frozen
// projection: the change of weight columns S, and nothing else, is multiplied.
#pragma once

#include "molt/autograd/tape.h"
#include "molt/device/kernel_table.h"

namespace molt::ops {

struct SparseColumnsKernels {
  /// xs (T, S) <- x[:, columns], then y (T, O), often a view, += xs · deltaᵀ with delta (O, S). y, delta, xs f32 or
  /// f64; x the same or bf16.
  void (*forward)(const Tensor& x, const IndexSet& columns, const Tensor& delta, const Tensor& xs,
                  const Tensor& y) = nullptr;
  /// ddelta <- (or +=) dyᵀ · xs.
  void (*delta_gradient)(const Tensor& dy, const Tensor& xs, const GradOut& ddelta) = nullptr;
  /// dx[:, columns] += dy · delta; the other columns are zeroed where dx does not accumulate.
  void (*x_gradient)(const Tensor& dy, const Tensor& delta, const IndexSet& columns, const GradOut& dx) = nullptr;
};
inline constinit KernelTable<SparseColumnsKernels> sparse_columns_kernels{"sparse_columns"};

struct SparseColumns {
  static constexpr const char* kName = "sparse_columns";
  IndexSetPtr columns;
  int64_t first_col = 0;
  Tensor xs{}, delta{};  // saved for backward: the chosen columns only, never x

  Tensor forward(const Needs& needs, const Tensor& y, const Tensor& x, const Tensor& delta_in);
  void backward(const Tensor& dy, Grads& d) const;
};

/// y (T, W), x (T, I), delta (O, S), S columns of [0, I) -> y (T, W) with x[:, S] · deltaᵀ added to its columns
/// [first_col, first_col + O), in the memory of y: what made y must not need it again (a product does not). y may be a
/// view of some columns itself.
inline Var sparse_columns(const Var& y, const Var& x, const Var& delta, IndexSetPtr columns, int64_t first_col = 0) {
  return record(SparseColumns{std::move(columns), first_col}, y, x, delta);
}

}  // namespace molt::ops

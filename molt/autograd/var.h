// A value and its place on the tape. Goals: a frozen value costs nothing; what the tape keeps alive is visible as
// members of ops; gradients may be wanted for some rows only. Non-goals: second derivatives, in-place changes.
#pragma once

#include <memory>
#include <vector>

#include "molt/tensor/index_set.h"
#include "molt/tensor/tensor.h"

namespace molt {

class TapeRecord;

/// The gradient side of a value. It never holds the value, so a value nobody saved is free to go.
struct GradNode {
  Shape shape;
  Dtype dtype = Dtype::kF32;
  Device device = Device::kCpu;
  Tensor grad;                           ///< undefined until something wrote to it
  std::shared_ptr<TapeRecord> producer;  ///< null for leaves and slices
  IndexSetPtr rows;                      ///< if set, the gradient is wanted for these rows only and has |rows| rows

  bool borrowed = false;  ///< the gradient's memory was handed over and may be shared with somebody

  // A slice is a run of columns of its parent and writes into the parent's gradient.
  std::shared_ptr<GradNode> parent;
  int64_t first_col = 0;
  /// Which columns of the gradient slices have written to; empty: all are valid.
  std::vector<bool> written;
};

class Var {
 public:
  Var() = default;
  /// A constant.
  explicit Var(Tensor value) : value_(std::move(value)) {}
  /// A trainable: backward() adds into its gradient. With `rows`, only for those rows, compactly: (|rows|, …).
  static Var leaf(Tensor value, IndexSetPtr rows = nullptr);

  bool defined() const { return value_.defined(); }
  const Tensor& value() const { return value_; }
  bool needs_grad() const { return node_ != nullptr; }
  /// The gradient of a leaf after backward(); undefined where nothing reached it.
  Tensor grad() const { return node_ ? node_->grad : Tensor(); }
  void set_grad(Tensor grad) const;
  void clear_grad() const { set_grad(Tensor()); }

  /// Columns [begin, begin + count): a view of the value and of the gradient.
  Var columns(int64_t begin, int64_t count) const;
  /// The same value as a constant.
  Var detach() const { return Var(value_); }

  const std::shared_ptr<GradNode>& node() const { return node_; }
  /// For record(): a value with a node of its own.
  Var(Tensor value, std::shared_ptr<GradNode> node) : value_(std::move(value)), node_(std::move(node)) {}

 private:
  Tensor value_;
  std::shared_ptr<GradNode> node_;
};

/// Where an op writes the gradient of one input: into memory as it is, or on top of what is there.
struct GradOut {
  Tensor tensor;
  bool accumulate = false;
};

namespace detail {
/// Memory for a node's gradient (allocated on first use) and whether it already holds a sum.
GradOut grad_out(GradNode& node);
/// Hands a finished gradient over: kept as it is if it is the first, added otherwise.
void give_grad(GradNode& node, Tensor grad);
/// Columns of a partial gradient that no slice wrote to are set to zero: from then on it is an ordinary sum.
void settle_slices(GradNode& node);
/// The gradient of a node with slices, columns nobody wrote to set to zero. Undefined if nothing was written.
Tensor take_grad(GradNode& node);
}  // namespace detail

}  // namespace molt

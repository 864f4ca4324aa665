#include "molt/autograd/var.h"

#include <algorithm>
#include "molt/base/error.h"

namespace molt {

Var Var::leaf(Tensor value, IndexSetPtr rows) {
  auto node = std::make_shared<GradNode>();
  node->shape = value.shape();
  if (rows) node->shape[0] = static_cast<int64_t>(rows->size());
  node->dtype = value.dtype() == Dtype::kF64 ? Dtype::kF64 : Dtype::kF32;
  node->device = value.device();
  node->rows = std::move(rows);
  return Var(std::move(value), std::move(node));
}

void Var::set_grad(Tensor grad) const {
  MOLT_CHECK(node_ != nullptr, "autograd: a constant has no gradient");
  node_->grad = std::move(grad);
  node_->written.clear();
  node_->borrowed = true;
}

Var Var::columns(int64_t begin, int64_t count) const {
  Tensor view = value_.col_range(begin, count);
  if (!node_) return Var(std::move(view));
  MOLT_CHECK(!node_->parent, "autograd: a slice of a slice");
  auto slice = std::make_shared<GradNode>();
  slice->shape = view.shape();
  slice->dtype = node_->dtype;
  slice->device = node_->device;
  slice->parent = node_;
  slice->first_col = begin;
  return Var(std::move(view), std::move(slice));
}

namespace detail {
namespace {

Tensor fresh(const GradNode& node) { return Tensor::empty(node.shape, node.dtype, node.device); }

/// Before a gradient is added to: memory that somebody else may hold is copied.
void own(GradNode& node) {
  if (node.borrowed && node.grad.shared_count() > 1) node.grad = node.grad.clone();
  node.borrowed = false;
}

GradOut slice_out(GradNode& slice) {
  GradNode& parent = *slice.parent;
  const int64_t begin = slice.first_col, count = slice.shape.back();
  if (!parent.grad.defined()) {
    parent.grad = fresh(parent);
    parent.written.assign(static_cast<size_t>(parent.shape.back()), false);
  }
  own(parent);
  bool accumulate = true;
  if (!parent.written.empty()) {
    const auto first = parent.written.begin() + begin, last = first + count;
    const auto there = std::count(first, last, true);
    if (there > 0 && there < count) {
      settle_slices(parent);  // another slice wrote to some of these columns
    } else {
      accumulate = there > 0;
      std::fill(first, last, true);
    }
  }
  return {parent.grad.col_range(begin, count), accumulate};
}

}  // namespace

void settle_slices(GradNode& node) {
  const auto width = static_cast<int64_t>(node.written.size());
  for (int64_t begin = 0; begin < width;) {
    int64_t end = begin;
    while (end < width && node.written[static_cast<size_t>(end)] == node.written[static_cast<size_t>(begin)]) ++end;
    if (!node.written[static_cast<size_t>(begin)]) node.grad.col_range(begin, end - begin).fill(0);
    begin = end;
  }
  node.written.clear();
}

GradOut grad_out(GradNode& node) {
  if (node.parent) return slice_out(node);
  if (!node.grad.defined()) {
    node.grad = fresh(node);
    return {node.grad, false};
  }
  settle_slices(node);
  own(node);
  return {node.grad, true};
}

void give_grad(GradNode& node, Tensor grad) {
  MOLT_CHECK(grad.shape() == node.shape, "autograd: gradient of shape ", shape_str(grad.shape()), " for a value of ",
             shape_str(node.shape));
  if (!node.parent && !node.grad.defined() && grad.dtype() == node.dtype) {
    node.grad = std::move(grad);
    node.borrowed = true;
    return;
  }
  const GradOut out = grad_out(node);
  Tensor target = out.tensor;
  if (out.accumulate) {
    target.add(grad.dtype() == target.dtype() ? grad : grad.to(target.dtype()));
  } else {
    target.copy_from(grad);
  }
}

Tensor take_grad(GradNode& node) {
  if (!node.grad.defined()) return {};
  settle_slices(node);
  node.borrowed = false;
  return std::move(node.grad);
}

}  // namespace detail
}  // namespace molt

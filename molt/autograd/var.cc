#include "molt/autograd/var.h"

#include <algorithm>
#include <utility>

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
  node_->grad_given = true;
  node_->partial = false;
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
  auto& slices = node_->slices;
  slices.erase(std::remove_if(slices.begin(), slices.end(), [](const auto& weak) { return weak.expired(); }),
               slices.end());
  slices.push_back(slice);
  return Var(std::move(view), std::move(slice));
}

namespace detail {
namespace {

void make_fresh(GradNode& node) {
  node.grad = Tensor::empty(node.shape, node.dtype, node.device);
  node.grad_given = false;
}

/// Memory that was handed over is copied if somebody else holds it. Ours may be shared with GradOuts that an op holds
/// for other slices: they must keep pointing at it.
void make_ours(GradNode& node) {
  if (node.grad_given && node.grad.shared_count() > 1) node.grad = node.grad.clone();
  node.grad_given = false;
}

}  // namespace

void settle_slices(GradNode& node) {
  if (!node.partial) return;
  node.partial = false;
  std::vector<bool> written(static_cast<size_t>(node.shape.back()), false);
  for (const auto& weak : node.slices) {
    const auto slice = weak.lock();
    if (!slice || !slice->written) continue;
    std::fill_n(written.begin() + slice->first_col, slice->shape.back(), true);
  }
  const int64_t width = node.shape.back();
  for (int64_t begin = 0; begin < width;) {
    int64_t end = begin;
    while (end < width && written[static_cast<size_t>(end)] == written[static_cast<size_t>(begin)]) ++end;
    if (!written[static_cast<size_t>(begin)]) node.grad.col_range(begin, end - begin).fill(0);
    begin = end;
  }
}

GradOut grad_out(GradNode& node) {
  if (node.parent) {
    GradNode& parent = *node.parent;
    if (!parent.grad.defined()) {
      make_fresh(parent);
      parent.partial = true;
      for (const auto& weak : parent.slices) {
        if (const auto slice = weak.lock()) slice->written = false;
      }
    } else {
      make_ours(parent);
    }
    for (const auto& weak : parent.slices) {
      const auto slice = weak.lock();
      if (slice && slice.get() != &node && slice->written && slice->first_col < node.first_col + node.shape.back() &&
          node.first_col < slice->first_col + slice->shape.back()) {
        settle_slices(parent);  // another slice wrote to some of these columns
      }
    }
    const bool accumulate = !parent.partial || node.written;
    node.written = true;
    return {parent.grad.col_range(node.first_col, node.shape.back()), accumulate};
  }
  if (!node.grad.defined()) {
    make_fresh(node);
    node.partial = false;
    return {node.grad, false};
  }
  settle_slices(node);
  make_ours(node);
  return {node.grad, true};
}

void give_grad(GradNode& node, Tensor grad) {
  MOLT_CHECK(grad.shape() == node.shape, "autograd: gradient of shape ", shape_str(grad.shape()), " for a value of ",
             shape_str(node.shape));
  if (!node.parent && !node.grad.defined() && grad.dtype() == node.dtype) {
    node.grad = std::move(grad);
    node.grad_given = true;
    node.partial = false;
    return;
  }
  const GradOut out = grad_out(node);
  if (out.accumulate) {
    Tensor target = out.tensor;
    target.add(grad.dtype() == target.dtype() ? grad : grad.to(target.dtype()));
  } else {
    Tensor target = out.tensor;
    target.copy_from(grad);
  }
}

Tensor take_grad(GradNode& node) {
  if (!node.grad.defined()) return {};
  settle_slices(node);
  return std::move(node.grad);
}

}  // namespace detail
}  // namespace molt

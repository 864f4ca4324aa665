// The convolution's place on the tape: checks, shapes, what is saved. The pre-activation is not saved but recomputed.
#include "molt/ops/conv.h"

#include <utility>

namespace molt::ops {
namespace {

/// The wanted rows of a dense gradient.
Tensor compact(const Tensor& grad, const IndexSetPtr& rows) {
  if (!rows) return grad;
  Shape shape = grad.shape();
  shape[0] = static_cast<int64_t>(rows->size());
  Tensor out = grad.like(shape);
  for (int64_t i = 0; i < shape[0]; ++i)
    out.row_range(i, 1).copy_from(grad.row_range((*rows)[static_cast<size_t>(i)], 1));
  return out;
}

}  // namespace

std::array<Tensor, 2> Conv1d::forward(const Needs& needs, const Tensor& x, const Tensor& weight, const Tensor& bias,
                                      const Tensor& tail) {
  MOLT_CHECK(x.rank() == 2 && weight.rank() == 2 && weight.dim(0) == x.dim(1) && weight.dim(1) >= 1,
             "conv1d: weight is ", shape_str(weight.shape()), ", x is ", shape_str(x.shape()));
  const int64_t channels = x.dim(1), before = weight.dim(1) - 1;
  const Shape tail_shape = {segments->count(), before, channels};
  MOLT_CHECK(segments->tokens() == x.dim(0), "conv1d: segments cover ", segments->tokens(), " tokens, x has ",
             x.dim(0));
  MOLT_CHECK(!bias.defined() || bias.shape() == Shape{channels}, "conv1d: bias is ", shape_str(bias.shape()), " for ",
             channels, " channels");
  MOLT_CHECK(!tail.defined() || tail.shape() == tail_shape, "conv1d: tail is ", shape_str(tail.shape()), ", expected ",
             shape_str(tail_shape));
  const Dtype compute = x.dtype() == Dtype::kBf16 ? Dtype::kF32 : x.dtype();
  for (const Tensor* t : {&weight, &bias, &tail})
    MOLT_CHECK(!t->defined() || t->dtype() == compute, "conv1d: x is ", dtype_name(x.dtype()), ", another input is ",
               dtype_name(t->dtype()));
  ConvInputs in{x, weight, bias, tail, segments, silu};
  Tensor y = x.like(x.shape(), compute), tail_out;
  if (want_tail) tail_out = x.like(tail_shape, compute);
  conv_kernels.at(x.device()).forward(in, y, tail_out);
  if (needs.any()) saved = std::move(in);
  return {y, tail_out};
}

void Conv1d::backward(const std::array<Tensor, 2>& dy, Grads& d) const {
  ConvGrads grads{dy[0], dy[1], {}, {}, {}, {}};
  if (d.wants(0)) grads.dx = d.out(0);
  if (d.wants(1)) grads.dweight = saved.weight.like(saved.weight.shape());
  if (d.wants(2)) grads.dbias = saved.bias.like(saved.bias.shape());
  if (d.wants(3)) grads.dtail = d.out(3);
  conv_kernels.at(saved.x.device()).backward(saved, grads);
  if (d.wants(1)) d.give(1, compact(grads.dweight, d.rows(1)));
  if (d.wants(2)) d.give(2, compact(grads.dbias, d.rows(2)));
}

ConvResult conv1d_silu(const Var& x, const Var& weight, const Var& bias, const Var& tail, const Segments& segments,
                       bool want_tail, bool silu) {
  auto [y, tail_out] =
      record(Conv1d{std::make_shared<const Segments>(segments), want_tail, silu}, x, weight, bias, tail);
  return {std::move(y), std::move(tail_out)};
}

}  // namespace molt::ops

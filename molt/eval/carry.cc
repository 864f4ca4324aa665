#include "molt/eval/carry.h"

#include "molt/base/error.h"
#include "molt/ops/gather_rows.h"

namespace molt::eval {
namespace {

Var take(const Var& state, const std::vector<int64_t>& rows) {
  if (!state.defined()) return {};
  const Tensor& from = state.value();
  Shape shape = from.shape();
  const int64_t segments = shape[0], width = segments > 0 ? from.numel() / segments : 0;
  shape[0] = static_cast<int64_t>(rows.size());
  if (width == 0) return Var(from.like(shape));
  ops::GatherRows gather{rows};
  return Var(gather.forward(Needs({nullptr}), from.reshape({segments, width})).reshape(shape));
}

Var join(const Var& a, const Var& b) {
  MOLT_CHECK(a.defined() == b.defined(), "carry: joined with one of another kind");
  if (!a.defined()) return {};
  Shape shape = a.value().shape();
  const int64_t first = shape[0], second = b.value().dim(0);
  shape[0] += second;
  const Tensor joined = a.value().like(shape);
  joined.row_range(0, first).copy_from(a.value());
  joined.row_range(first, second).copy_from(b.value());
  return Var(joined);
}

}  // namespace

nn::Carry take_segments(const nn::Carry& carry, const std::vector<int64_t>& rows) {
  nn::Carry taken(carry.size());
  for (size_t i = 0; i < carry.size(); ++i) {
    taken[i].conv = take(carry[i].conv, rows);
    taken[i].ssm = take(carry[i].ssm, rows);
  }
  return taken;
}

nn::Carry join_segments(const nn::Carry& a, const nn::Carry& b) {
  if (a.empty()) return b;
  if (b.empty()) return a;
  MOLT_CHECK(a.size() == b.size(), "carry: ", a.size(), " layers joined with ", b.size());
  nn::Carry joined(a.size());
  for (size_t i = 0; i < a.size(); ++i) {
    joined[i].conv = join(a[i].conv, b[i].conv);
    joined[i].ssm = join(a[i].ssm, b[i].ssm);
  }
  return joined;
}

}  // namespace molt::eval

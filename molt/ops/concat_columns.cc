#include "molt/ops/concat_columns.h"

#include "molt/base/error.h"

namespace molt::ops {
namespace {

/// Any shape as a matrix of its last dimension.
Tensor as_matrix(const Tensor& t) { return t.rank() == 2 ? t : t.reshape({t.rows(), t.cols()}); }

void copy(const Tensor& from, Tensor to) { to.copy_from(from); }

}  // namespace

Tensor ConcatColumns::forward(const Needs&, const Tensor& a, const Tensor& b) {
  Shape shape = a.shape();
  MOLT_CHECK(!shape.empty(), "concat_columns: a number has no columns");
  if (b.defined()) {
    Shape like = b.shape();
    like.back() = shape.back();
    MOLT_CHECK(like == shape && b.dtype() == a.dtype(), "concat_columns: ", shape_str(a.shape()), " ",
               dtype_name(a.dtype()), " beside ", shape_str(b.shape()), " ", dtype_name(b.dtype()));
  }
  width_a = a.cols(), width_b = b.defined() ? b.cols() : zeros;
  shape.back() = width_a + width_b;
  const Tensor y = a.like(shape), flat = as_matrix(y);
  copy(as_matrix(a), flat.col_range(0, width_a));
  Tensor rest = flat.col_range(width_a, width_b);
  if (b.defined()) {
    copy(as_matrix(b), rest);
  } else {
    rest.fill(0);
  }
  return y;
}

void ConcatColumns::backward(const Tensor& dy, Grads& d) const {
  const Tensor flat = as_matrix(dy);
  const Tensor parts[] = {flat.col_range(0, width_a), flat.col_range(width_a, width_b)};
  for (const int i : {0, 1}) {
    if (!d.wants(i)) continue;
    const GradOut out = d.out(i);
    Tensor to = as_matrix(out.tensor);
    const IndexSetPtr wanted = d.rows(i);
    const int64_t rows = wanted ? static_cast<int64_t>(wanted->size()) : 1;
    for (int64_t r = 0; r < rows; ++r) {
      const Tensor from = wanted ? parts[i].row_range((*wanted)[static_cast<size_t>(r)], 1) : parts[i];
      Tensor part = wanted ? to.row_range(r, 1) : to;
      if (out.accumulate) {
        part.add(from);
      } else {
        part.copy_from(from);
      }
    }
  }
}

}  // namespace molt::ops

#include "molt/ops/token_rows.h"

#include <algorithm>

#include "molt/ops/products.h"

namespace molt::ops {

Tensor LowRankRows::forward(const Needs& needs, const Tensor& y, const Tensor& A_in, const Tensor& B_in) {
  const int64_t T = y.rows(), R = A_in.rows(), V = A_in.cols();
  MOLT_CHECK(static_cast<int64_t>(ids.size()) == T && B_in.cols() == R && B_in.rows() == y.cols(), "low_rank_rows: A ",
             shape_str(A_in.shape()), ", B ", shape_str(B_in.shape()), ", y ", shape_str(y.shape()));
  const Tensor chosen = y.like({T, R});
  with_compute_type(y.dtype(), [&](auto tag) {
    using N = decltype(tag);
    for (int64_t t = 0; t < T; ++t) {
      const int64_t id = ids[static_cast<size_t>(t)];
      MOLT_CHECK(id >= 0 && id < V, "low_rank_rows: token id ", id, " of ", V);
      for (int64_t r = 0; r < R; ++r) chosen.data<N>()[t * R + r] = A_in.data<N>()[r * V + id];
    }
  });
  multiply(false, true, scale, chosen, B_in, {y, true});
  if (needs.any()) {
    A = A_in, B = B_in;
    if (needs.wants(2)) u = chosen;
  }
  return y;
}

void LowRankRows::backward(const Tensor& dy, Grads& d) const {
  if (d.wants(2)) multiply(true, false, scale, dy, u, d.out(2));
  if (d.wants(1)) {
    const int64_t R = A.rows(), V = A.cols();
    const Tensor du = dy.like({dy.rows(), R});
    multiply(false, false, scale, dy, B, {du, false});
    GradOut dA = d.out(1);
    if (!dA.accumulate) dA.tensor.fill(0);
    with_compute_type(dy.dtype(), [&](auto tag) {
      using N = decltype(tag);
      for (size_t t = 0; t < ids.size(); ++t) {
        for (int64_t r = 0; r < R; ++r)
          dA.tensor.data<N>()[r * V + ids[t]] += du.data<N>()[static_cast<int64_t>(t) * R + r];
      }
    });
  }
  d.give(0, dy);
}

Tensor ReplaceRows::forward(const Needs&, const Tensor& y, const Tensor& rows) {
  MOLT_CHECK(static_cast<int64_t>(places.size()) == y.rows() && rows.cols() == y.cols(), "replace_rows: y ",
             shape_str(y.shape()), ", rows ", shape_str(rows.shape()), ", ", places.size(), " places");
  shape = rows.shape();
  for (size_t t = 0; t < places.size(); ++t) {
    if (places[t] >= 0) y.row_range(static_cast<int64_t>(t), 1).copy_from(rows.row_range(places[t], 1));
  }
  return y;
}

void ReplaceRows::backward(const Tensor& dy, Grads& d) const {
  if (d.wants(1)) {
    const Tensor grad = Tensor::zeros(shape, dy.dtype());
    for (size_t t = 0; t < places.size(); ++t) {
      if (places[t] >= 0) grad.row_range(places[t], 1).add(dy.row_range(static_cast<int64_t>(t), 1));
    }
    d.give(1, grad);
  }
  if (d.wants(0)) {
    const Tensor rest = dy.clone();
    for (size_t t = 0; t < places.size(); ++t) {
      if (places[t] >= 0) rest.row_range(static_cast<int64_t>(t), 1).fill(0);
    }
    d.give(0, rest);
  }
}

Tensor ReplaceLogits::forward(const Needs& needs, const Tensor& y, const Tensor& x_in, const Tensor& rows_in) {
  const auto n = static_cast<int64_t>(columns.size());
  MOLT_CHECK(rows_in.rows() == n && rows_in.cols() == x_in.cols() && x_in.rows() == y.rows(), "replace_logits: y ",
             shape_str(y.shape()), ", x ", shape_str(x_in.shape()), ", rows ", shape_str(rows_in.shape()));
  const Tensor own = y.like({y.rows(), n});
  multiply(false, true, 1, x_in, rows_in, {own, false});
  for (int64_t j = 0; j < n; ++j) y.col_range(columns[static_cast<size_t>(j)], 1).copy_from(own.col_range(j, 1));
  if (needs.any()) {
    rows = rows_in;
    if (needs.wants(2)) x = x_in;
  }
  return y;
}

void ReplaceLogits::backward(const Tensor& dy, Grads& d) const {
  const auto n = static_cast<int64_t>(columns.size());
  const Tensor own = dy.like({dy.rows(), n});
  for (int64_t j = 0; j < n; ++j) own.col_range(j, 1).copy_from(dy.col_range(columns[static_cast<size_t>(j)], 1));
  if (d.wants(2)) multiply(true, false, 1, own, x, d.out(2));
  if (d.wants(1)) multiply(false, false, 1, own, rows, d.out(1));
  if (d.wants(0)) {
    const Tensor rest = dy.clone();
    for (const int64_t column : columns) rest.col_range(column, 1).fill(0);
    d.give(0, rest);
  }
}

}  // namespace molt::ops

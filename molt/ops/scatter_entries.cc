#include "molt/ops/scatter_entries.h"

#include <algorithm>

#include "molt/ops/gather_rows.h"

namespace molt::ops {
namespace {

/// Entries per row of the first dimension.
int64_t row_size(const Shape& shape) {
  int64_t size = 1;
  for (size_t i = 1; i < shape.size(); ++i) size *= shape[i];
  return size;
}

/// Where row `row` stands among `rows` (null: all).
int64_t position(const IndexSetPtr& rows, int64_t row) {
  return rows ? std::lower_bound(rows->begin(), rows->end(), row) - rows->begin() : row;
}

IndexSetPtr united(const IndexSetPtr& a, const IndexSetPtr& b) {
  IndexSet all = *a;
  all.insert(all.end(), b->begin(), b->end());
  return make_index_set(std::move(all));
}

/// From dy, which has the rows `have`, those in `want` (null: all; then dy as it is).
Tensor take_rows(const Tensor& dy, const IndexSetPtr& have, const IndexSetPtr& want) {
  if (!want || want == have) return dy;
  std::vector<int64_t> at;
  for (const int64_t row : *want) at.push_back(position(have, row));
  Shape shape = dy.shape();
  const int64_t n = row_size(shape);
  const Tensor flat = (dy.contiguous() ? dy : dy.clone()).reshape({shape[0], n});
  shape[0] = static_cast<int64_t>(want->size());
  const Tensor out = dy.like({shape[0], n});
  gather_rows_kernels.at(dy.device()).forward(flat, at, out);
  return out.reshape(shape);
}

}  // namespace

EntrySetPtr make_entry_set(std::vector<int64_t> flat, const Shape& shape) {
  const int64_t n = row_size(shape), all = shape_numel(shape);
  IndexSet rows;
  for (const int64_t place : flat) {
    MOLT_CHECK(place >= 0 && place < all, "scatter_entries: entry ", place, " of a parameter ", shape_str(shape));
    rows.push_back(place / n);
  }
  auto set = std::make_shared<EntrySet>();
  set->shape = shape;
  set->flat = std::move(flat);
  set->rows = make_index_set(std::move(rows));
  return set;
}

Tensor ScatterEntries::forward(const Needs& needs, const Tensor& base, const Tensor& delta) {
  MOLT_CHECK(base.shape() == entries->shape, "scatter_entries: base ", shape_str(base.shape()), ", entries of ",
             shape_str(entries->shape));
  MOLT_CHECK(delta.numel() == static_cast<int64_t>(entries->flat.size()) && delta.dtype() == base.dtype(),
             "scatter_entries: ", delta.numel(), " ", dtype_name(delta.dtype()), " changes for ", entries->flat.size(),
             " entries of ", dtype_name(base.dtype()));
  if (!needs.wants(0)) {
    wanted = entries->rows;
  } else if (needs.rows(0)) {
    wanted = needs.wants(1) ? united(needs.rows(0), entries->rows) : needs.rows(0);
  }
  Tensor y = base.clone();
  scatter_entries_kernels.at(base.device()).scatter(delta, entries->flat, y);
  return y;
}

void ScatterEntries::backward(const Tensor& dy, Grads& d) const {
  if (d.wants(1)) {
    std::vector<int64_t> places = entries->flat;
    if (wanted) {
      const int64_t n = row_size(entries->shape);
      for (int64_t& place : places) place = position(wanted, place / n) * n + place % n;
    }
    scatter_entries_kernels.at(dy.device()).gather(dy.contiguous() ? dy : dy.clone(), places, d.out(1));
  }
  if (d.wants(0)) d.give(0, take_rows(dy, wanted, d.rows(0)));
}

Tensor AddParam::forward(const Needs& needs, const Tensor& base, const Tensor& delta) {
  const bool all = (needs.wants(0) && !needs.rows(0)) || (needs.wants(1) && !needs.rows(1));
  if (!all && needs.any()) {
    wanted = needs.wants(0) && needs.wants(1) ? united(needs.rows(0), needs.rows(1))
             : needs.wants(0)                 ? needs.rows(0)
                                              : needs.rows(1);
  }
  Tensor y = base.clone();
  y.add(delta);
  return y;
}

void AddParam::backward(const Tensor& dy, Grads& d) const {
  for (const int i : {0, 1}) {
    if (d.wants(i)) d.give(i, take_rows(dy, wanted, d.rows(i)));
  }
}

}  // namespace molt::ops

#include "molt/ops/embedding.h"

#include <algorithm>

#include "molt/ops/gather_rows.h"

namespace molt::ops {

Tensor Embedding::forward(const Needs&, const Tensor& table) {
  MOLT_CHECK(table.rank() == 2, "embedding: the table is a matrix, got ", shape_str(table.shape()));
  for (size_t t = 0; t < ids.size(); ++t)
    MOLT_CHECK(ids[t] >= 0 && ids[t] < table.dim(0), "embedding: token id ", ids[t], " at position ", t,
               ", the table has ", table.dim(0), " rows");
  Tensor y = table.like({static_cast<int64_t>(ids.size()), table.dim(1)}, out);
  gather_rows_kernels.at(table.device()).forward(table, {ids.begin(), ids.end()}, y);
  return y;
}

void Embedding::backward(const Tensor& dy, Grads& d) const {
  std::vector<int64_t> rows(ids.begin(), ids.end());
  if (const IndexSetPtr wanted = d.rows(0)) {
    for (int64_t& row : rows) {
      const auto found = std::lower_bound(wanted->begin(), wanted->end(), row);
      row = found != wanted->end() && *found == row ? found - wanted->begin() : -1;
    }
  }
  const GradOut dtable = d.out(0);
  const Tensor g = dy.dtype() == dtable.tensor.dtype() ? dy : dy.to(dtable.tensor.dtype());
  gather_rows_kernels.at(dy.device()).backward(g, rows, dtable);
}

}  // namespace molt::ops

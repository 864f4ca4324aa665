#include "molt/ops/permute_columns.h"

#include "molt/base/error.h"
#include "molt/device/cpu/parallel.h"

namespace molt::ops {
namespace {

void permute(const Tensor& x, const std::vector<int64_t>& order, bool inverse, const GradOut& to) {
  with_compute_type(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    parallel_for(x.rows(), 16, [&](int64_t t) {
      const T* from = x.data<T>() + t * x.ld();
      T* out = to.tensor.data<T>() + t * to.tensor.ld();
      for (size_t i = 0; i < order.size(); ++i) {
        const auto o = static_cast<size_t>(order[i]);
        T& place = out[inverse ? o : i];
        const T value = from[inverse ? i : o];
        place = to.accumulate ? place + value : value;
      }
    });
  });
}

}  // namespace

Tensor PermuteColumns::forward(const Needs&, const Tensor& x) const {
  MOLT_CHECK(x.rank() == 2 && x.cols() == static_cast<int64_t>(order->size()),
             "permute_columns: ", shape_str(x.shape()), " by ", order->size());
  const Tensor out = x.like(x.shape());
  permute(x, *order, inverse, {out, false});
  return out;
}

void PermuteColumns::backward(const Tensor& dy, Grads& d) const {
  if (d.wants(0)) permute(dy, *order, !inverse, d.out(0));
}

}  // namespace molt::ops

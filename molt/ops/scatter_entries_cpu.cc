// CPU kernels of scatter_entries: a few thousand numbers, so one core and no vectors.
#include "molt/ops/scatter_entries.h"

namespace molt::ops {
namespace {

void scatter(const Tensor& from, const std::vector<int64_t>& places, const Tensor& to) {
  with_compute_type(to.dtype(), [&](auto t) {
    using T = decltype(t);
    for (size_t m = 0; m < places.size(); ++m) to.data<T>()[places[m]] += from.data<T>()[m];
  });
}

void gather(const Tensor& from, const std::vector<int64_t>& places, const GradOut& to) {
  with_compute_type(from.dtype(), [&](auto t) {
    using T = decltype(t);
    T* out = to.tensor.data<T>();
    for (size_t m = 0; m < places.size(); ++m) {
      const T value = from.data<T>()[places[m]];
      out[m] = to.accumulate ? out[m] + value : value;
    }
  });
}

MOLT_KERNELS(scatter_entries_kernels, Device::kCpu, {scatter, gather});

}  // namespace
}  // namespace molt::ops

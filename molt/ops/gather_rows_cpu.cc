// CPU kernels of gather_rows: bound by memory, so plain loops.
#include "molt/ops/gather_rows.h"

#include <cstring>

#include "molt/device/cpu/parallel.h"

namespace molt::ops {
namespace {

/// Rows that are worth a second thread.
int64_t row_grain(int64_t cols) { return std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(cols, 1)); }

template <class To, class From>
void convert(const Tensor& x, const std::vector<int64_t>& rows, const Tensor& y) {
  const int64_t n = y.cols();
  parallel_for(y.rows(), row_grain(n), [&](int64_t r) {
    const From* from = x.data<From>() + rows[static_cast<size_t>(r)] * x.ld();
    To* to = y.data<To>() + r * y.ld();
    for (int64_t i = 0; i < n; ++i) {
      if constexpr (std::is_same_v<From, double>) {
        to[i] = static_cast<To>(from[i]);
      } else {
        to[i] = static_cast<To>(static_cast<float>(from[i]));
      }
    }
  });
}

void forward(const Tensor& x, const std::vector<int64_t>& rows, const Tensor& y) {
  if (x.dtype() == y.dtype()) {
    const size_t size = dtype_size(x.dtype()), bytes = static_cast<size_t>(y.cols()) * size;
    parallel_for(y.rows(), row_grain(y.cols()), [&](int64_t r) {
      const char* from =
          static_cast<char*>(x.raw()) + static_cast<size_t>(rows[static_cast<size_t>(r)] * x.ld()) * size;
      std::memcpy(static_cast<char*>(y.raw()) + static_cast<size_t>(r * y.ld()) * size, from, bytes);
    });
    return;
  }
  with_compute_type(y.dtype(), [&](auto t) {
    using To = decltype(t);
    switch (x.dtype()) {
      case Dtype::kF32:
        return convert<To, float>(x, rows, y);
      case Dtype::kF64:
        return convert<To, double>(x, rows, y);
      case Dtype::kBf16:
        return convert<To, bf16>(x, rows, y);
      case Dtype::kF16:
        return convert<To, f16>(x, rows, y);
      default:
        MOLT_CHECK(false, "gather_rows: from ", dtype_name(x.dtype()), " to ", dtype_name(y.dtype()));
    }
  });
}

template <class T>
void scatter(const Tensor& dy, const std::vector<int64_t>& rows, const GradOut& dx) {
  const Tensor& out = dx.tensor;
  const int64_t n = out.cols();
  if (!dx.accumulate) {
    parallel_for(out.rows(), row_grain(n), [&](int64_t row) { std::fill_n(out.data<T>() + row * out.ld(), n, T(0)); });
  }
  // Threads share the columns, not the rows: a row that comes twice is then summed in the same order by any number.
  parallel_ranges(n, 64, [&](int64_t begin, int64_t end) {
    for (size_t r = 0; r < rows.size(); ++r) {
      if (rows[r] < 0) continue;
      const T* from = dy.data<T>() + static_cast<int64_t>(r) * dy.ld();
      T* to = out.data<T>() + rows[r] * out.ld();
      for (int64_t i = begin; i < end; ++i) to[i] += from[i];
    }
  });
}

void backward(const Tensor& dy, const std::vector<int64_t>& rows, const GradOut& dx) {
  with_compute_type(dy.dtype(), [&](auto t) { scatter<decltype(t)>(dy, rows, dx); });
}

MOLT_KERNELS(gather_rows_kernels, Device::kCpu, {forward, backward});

}  // namespace
}  // namespace molt::ops

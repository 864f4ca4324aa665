// Columns that hold one number whatever was computed: a channel that is cut off.
#pragma once

#include "molt/autograd/tape.h"
#include "molt/device/cpu/parallel.h"

namespace molt::ops {

struct SetColumns {
  static constexpr const char* kName = "set_columns";
  IndexSetPtr columns;
  double value = 0;

  Tensor forward(const Needs&, const Tensor& y) {
    fill(y, value);
    return y;
  }
  /// Nothing flows back through them.
  void backward(const Tensor& dy, Grads& d) const {
    const Tensor dx = dy.clone();
    fill(dx, 0);
    d.give(0, dx);
  }

 private:
  void fill(const Tensor& t, double number) const {
    with_compute_type(t.dtype(), [&](auto tag) {
      using T = decltype(tag);
      T* const data = t.data<T>();
      parallel_ranges(t.rows(), 64, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
          for (const int64_t column : *columns) data[r * t.ld() + column] = static_cast<T>(number);
      });
    });
  }
};

/// y (T, W) with `columns` set to `value`, in the memory of y: what made y must not need it again.
inline Var set_columns(const Var& y, IndexSetPtr columns, double value) {
  return record(SetColumns{std::move(columns), value}, y);
}

}  // namespace molt::ops

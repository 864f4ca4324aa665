// Columns that hold one number whatever was computed: a channel that is cut
// off.
#pragma once

#include "molt/autograd/tape.h"

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
    for (const int64_t column : *columns) {
      Tensor one = t.col_range(column, 1);
      one.fill(number);
    }
  }
};

/// y (T, W) with `columns` set to `value`, in the memory of y: what made y must
/// not need it again.
inline Var set_columns(const Var& y, IndexSetPtr columns, double value) {
  return record(SetColumns{std::move(columns), value}, y);
}

}  // namespace molt::ops

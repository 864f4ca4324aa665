// Columns beside columns: further states beside a model's own.
#pragma once

#include "molt/autograd/tape.h"

namespace molt::ops {

struct ConcatColumns {
  static constexpr const char* kName = "concat_columns";
  int64_t zeros = 0;  // columns to add where there is no b
  int64_t width_a = 0, width_b = 0;

  Tensor forward(const Needs& needs, const Tensor& a, const Tensor& b);
  void backward(const Tensor& dy, Grads& d) const;
};

/// a (…, m), b (…, n) of the same rows and dtype (f32 or f64) -> (…, m + n), in new memory.
inline Var concat_columns(const Var& a, const Var& b) { return record(ConcatColumns{}, a, b); }
/// a (…, m) -> (…, width), zeros behind; a itself where it is that wide already.
inline Var pad_columns(const Var& a, int64_t width) {
  const int64_t more = width - a.value().cols();
  return more <= 0 ? a : record(ConcatColumns{more}, a, Var());
}

}  // namespace molt::ops

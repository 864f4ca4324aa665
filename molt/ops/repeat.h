// One value for every segment: what a learned initial state is, and a state that all segments go on from.
#pragma once

#include "molt/autograd/tape.h"

namespace molt::ops {

struct Repeat {
  static constexpr const char* kName = "repeat";
  int64_t count = 1;
  bool leading = false;  // the value comes as (1, …)

  Tensor forward(const Needs& needs, const Tensor& x);
  /// Sums over the copies, in their order.
  void backward(const Tensor& dy, Grads& d) const;
};

/// x (…) -> (count, …) of copies, in new memory.
inline Var repeat(const Var& x, int64_t count) { return record(Repeat{count, false}, x); }
/// x (1, …) -> (count, …) of copies; x itself where count is 1.
inline Var repeat_first(const Var& x, int64_t count) { return count == 1 ? x : record(Repeat{count, true}, x); }

}  // namespace molt::ops

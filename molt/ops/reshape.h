// The same numbers under another shape.
#pragma once

#include "molt/autograd/tape.h"

namespace molt::ops {

struct Reshape {
  static constexpr const char* kName = "reshape";
  Shape to{}, from{};

  Tensor forward(const Needs&, const Tensor& x) {
    from = x.shape();
    return x.reshape(to);
  }
  void backward(const Tensor& dy, Grads& d) const { d.give(0, (dy.contiguous() ? dy : dy.clone()).reshape(from)); }
};

/// x, dense, as `shape`: a view of the same memory.
inline Var reshape(const Var& x, Shape shape) { return record(Reshape{std::move(shape)}, x); }

}  // namespace molt::ops

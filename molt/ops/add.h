// Adds a branch to the stream it left: the residual connection.
#pragma once

#include "molt/autograd/tape.h"

namespace molt::ops {

struct Add {
  static constexpr const char* kName = "add";
  bool done = false;

  Tensor forward(const Needs& needs, const Tensor& a, const Tensor& b);
  void backward(const Tensor& dy, Grads& d) const;
};

/// a + b, same shape and dtype (f32 or f64), written into the memory of b. So b must be a value that nobody reads
/// again: not a trainable, and not the output of an op that saved it (a product does not). Gradients pass without
/// copies. `done`: an earlier run has added a to b's memory.
inline Var add(const Var& a, const Var& b, bool done = false) { return record(Add{done}, a, b); }

}  // namespace molt::ops

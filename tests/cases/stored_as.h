// A value on the tape kept in another type, as blocks keep some activations in bf16; its gradient comes in that type.
#pragma once

#include "molt/autograd/tape.h"

namespace molt::testing {

struct StoredAs {
  static constexpr const char* kName = "stored_as";
  Dtype dtype;
  Dtype before{};

  Tensor forward(const Needs&, const Tensor& x) {
    before = x.dtype();
    return x.to(dtype);
  }
  void backward(const Tensor& dy, Grads& d) const { d.give(0, dy.to(before)); }
};

inline Var stored_as(const Var& x, Dtype dtype) { return record(StoredAs{dtype}, x); }

}  // namespace molt::testing

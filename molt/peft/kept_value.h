// What is computed from trainables alone, kept while they stay as they are: passes without training, of which decoding
// makes one per token, need not compute it again.
#pragma once

#include "molt/nn/edit.h"

namespace molt::peft {

class KeptValue {
 public:
  /// make(), or what it gave in an earlier pass. In training it is made anew in each, for its gradients.
  template <class Make>
  Var get(const nn::EditContext& e, const Make& make) const {
    if (e.run.training || grad_enabled()) return make();
    if (!value_.defined()) value_ = make().value();
    return Var(value_);
  }
  /// After a trainable changed.
  void changed() { value_ = Tensor(); }

 private:
  mutable Tensor value_;
};

}  // namespace molt::peft

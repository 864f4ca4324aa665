// AdamW (Loshchilov and Hutter, 2019), number by number as torch.optim.AdamW computes it.
// Goals: fused, both cores busy over many small tensors, same bits whatever the thread count, bit-exact resumption.
// Non-goals: AMSGrad, moments in 16 or 8 bits.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "molt/optim/parameter.h"

namespace molt::optim {

struct AdamWConfig {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;

  /// Calls v.field(name, member, help) for every key.
  template <class V>
  void visit(V& v) {
    v.field("adam_beta1", beta1, "decay of the mean of gradients, in [0, 1)");
    v.field("adam_beta2", beta2, "decay of the mean of squared gradients, in [0, 1)");
    v.field("adam_epsilon", eps, "added to the root of the mean square");
    v.field("weight_decay", weight_decay, "share of a weight taken away per step, times the learning rate");
  }
};

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// At a parameter's t-th step, with g its gradient times grad_scale and η the rate times lr_scale:
///   p ← (1 − η · weight_decay) · p,   m ← m + (1 − β₁)(g − m),   v ← β₂ v + (1 − β₂) g²,
///   p ← p − η / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + eps).
/// Moments have the gradient's shape (the trained rows only, for a parameter with a set of rows) and the value's dtype.
class AdamW {
 public:
  /// Throws UsageError for settings out of range, InternalError for a value that is not a dense f32 or f64 leaf and for
  /// a name or leaf that comes twice.
  AdamW(std::vector<Parameter> parameters, AdamWConfig config);

  /// One update in place; gradients are cleared after it. A parameter without a gradient is left as it is, decay and
  /// step count too.
  void step(double lr, double grad_scale = 1);
  void clear_grads();

  const std::vector<Parameter>& parameters() const { return parameters_; }
  /// How many numbers train.
  int64_t trainable_count() const;

  /// Everything a resumed run needs beside the values: NAME.exp_avg, NAME.exp_avg_sq and NAME.step (i64, one number)
  /// for each parameter. They share the optimizer's memory: write them out before the next step.
  NamedTensors state() const;
  /// Takes over what state() gave, in any order. Throws UsageError for missing, extra or wrongly shaped tensors.
  void load_state(const NamedTensors& tensors);

 private:
  struct Moments {
    Tensor m, v, step;
  };
  std::vector<Parameter> parameters_;
  std::vector<Moments> moments_;
  AdamWConfig config_;
};

}  // namespace molt::optim

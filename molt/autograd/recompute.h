// Trades time for memory: a stretch of the model keeps only its input, and is run again when the gradient comes by.
// Random draws are keyed by position, so the second run sees the same ones and gradients are the same bit for bit.
#pragma once

#include <utility>

#include "molt/autograd/tape.h"

namespace molt {
namespace detail {

template <class F>
class RecomputeRecord final : public TapeRecord {
 public:
  RecomputeRecord(F f, Tensor x, bool x_needs_grad) : f_(std::move(f)), x_(std::move(x)), x_needs_grad_(x_needs_grad) {}
  const char* name() const override { return "recompute"; }
  void run_backward() override {
    const auto node = outputs[0].lock();
    Tensor dy = node ? take_grad(*node) : Tensor();
    if (!dy.defined()) return;
    const Var x = x_needs_grad_ ? Var::leaf(x_) : Var(x_);
    Var y;
    {
      Recording recording;
      y = f_(x);
    }
    backward(y, std::move(dy));
    if (x_needs_grad_ && x.grad().defined()) give_grad(*inputs[0], x.grad());
  }

 private:
  /// Recording is off during backward; this turns it on for the second run.
  struct Recording {
    Recording();
    ~Recording();
    bool before;
  };
  F f_;
  Tensor x_;
  bool x_needs_grad_;
};

bool exchange_grad_enabled(bool enabled);
template <class F>
RecomputeRecord<F>::Recording::Recording() : before(exchange_grad_enabled(true)) {}
template <class F>
RecomputeRecord<F>::Recording::~Recording() {
  exchange_grad_enabled(before);
}

}  // namespace detail

/// y = f(x) for f: Var -> Var, keeping only x. `trains`: something inside f, beside x, needs a gradient.
template <class F>
Var recompute(F f, const Var& x, bool trains) {
  const bool x_needs_grad = x.needs_grad();
  if (!grad_enabled() || (!trains && !x_needs_grad)) return f(x);
  Tensor value;
  {
    NoGrad no_grad;
    value = f(Var(x.value())).value();
  }
  auto record = std::make_shared<detail::RecomputeRecord<F>>(std::move(f), x.value(), x_needs_grad);
  record->sequence = detail::next_sequence();
  record->inputs = {x.node()};
  auto node = detail::output_node(value, record);
  return Var(std::move(value), std::move(node));
}

}  // namespace molt

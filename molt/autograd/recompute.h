// Trades time for memory: a stretch of the model keeps only its input, and is run again when the gradient comes by.
// Random draws are keyed by position, so the second run sees the same ones and gradients are the same bit for bit.
#pragma once

#include <utility>
#include <vector>

#include "molt/autograd/tape.h"

namespace molt {
namespace detail {

template <class F>
class RecomputeRecord final : public TapeRecord {
 public:
  RecomputeRecord(F f, const std::vector<Var>& xs) : f_(std::move(f)) {
    for (const Var& x : xs) {
      xs_.push_back(x.value());
      inputs.push_back(x.node());
    }
  }
  const char* name() const override { return "recompute"; }
  void run_backward() override {
    const auto node = outputs[0].lock();
    Tensor dy = node ? take_grad(*node) : Tensor();
    if (!dy.defined()) return;
    std::vector<Var> xs;
    for (size_t i = 0; i < xs_.size(); ++i) xs.push_back(inputs[i] ? Var::leaf(xs_[i]) : Var(xs_[i]));
    Var y;
    {
      Recording recording;
      y = f_(xs);
    }
    if (!y.needs_grad()) return;  // what trains inside rests in this pass
    backward(y, std::move(dy));
    for (size_t i = 0; i < xs_.size(); ++i) {
      if (inputs[i] && xs[i].grad().defined()) give_grad(*inputs[i], xs[i].grad());
    }
  }

 private:
  /// Recording is off during backward; this turns it on for the second run.
  struct Recording {
    Recording();
    ~Recording();
    bool before;
  };
  F f_;
  std::vector<Tensor> xs_;
};

bool exchange_grad_enabled(bool enabled);
template <class F>
RecomputeRecord<F>::Recording::Recording() : before(exchange_grad_enabled(true)) {}
template <class F>
RecomputeRecord<F>::Recording::~Recording() {
  exchange_grad_enabled(before);
}

}  // namespace detail

/// y = f(xs) for f: vector of Vars (undefined ones stay so) -> Var, keeping only xs. `trains`: something inside f,
/// beside xs, may need a gradient.
template <class F>
Var recompute(F f, const std::vector<Var>& xs, bool trains) {
  bool needed = trains;
  for (const Var& x : xs) needed = needed || x.needs_grad();
  if (!grad_enabled() || !needed) return f(xs);
  Tensor value;
  {
    NoGrad no_grad;
    std::vector<Var> constants;
    for (const Var& x : xs) constants.push_back(x.detach());
    value = f(constants).value();
  }
  auto record = std::make_shared<detail::RecomputeRecord<F>>(std::move(f), xs);
  record->sequence = detail::next_sequence();
  auto node = detail::output_node(value, record);
  return Var(std::move(value), std::move(node));
}

}  // namespace molt

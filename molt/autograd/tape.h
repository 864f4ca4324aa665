// The tape: record() runs an op and remembers it only if something needs a gradient; backward() walks back.
//
// An op is a plain struct: attributes, saved tensors as members, and
//   static constexpr const char* kName;
//   Tensor  forward(const Needs&, const Tensor&…);              or  std::array<Tensor, N> forward(…)
//   void    backward(const Tensor& dy, Grads&) const;           or  backward(const std::array<Tensor, N>& dy, Grads&)
// With several outputs, dy[i] is undefined where nobody used output i. Absent optional inputs are undefined tensors.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "molt/autograd/op_times.h"
#include "molt/autograd/var.h"

namespace molt {

/// While one lives on a thread, nothing is recorded there.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool before_;
};
bool grad_enabled();

/// While one lives on a thread, it is shown what every op there gives: for finding where a value went wrong.
class OpObserver {
 public:
  using See = std::function<void(const char* op, const Tensor& output)>;
  explicit OpObserver(See see);
  ~OpObserver();
  OpObserver(const OpObserver&) = delete;
  OpObserver& operator=(const OpObserver&) = delete;
  /// The innermost one of this thread; null where there is none.
  static OpObserver* current();

  See see;
  int layer = -1;  ///< a model says here which of its layers runs; its number of layers in the head

 private:
  OpObserver* before_;
};

/// Which inputs need a gradient, known already in forward.
class Needs {
 public:
  explicit Needs(std::vector<const GradNode*> nodes) : nodes_(std::move(nodes)) {}
  bool wants(int i) const { return nodes_[static_cast<size_t>(i)] != nullptr; }
  bool any() const {
    for (const GradNode* node : nodes_) {
      if (node) return true;
    }
    return false;
  }
  /// The rows whose gradient is wanted; null for all of them.
  IndexSetPtr rows(int i) const { return wants(i) ? nodes_[static_cast<size_t>(i)]->rows : nullptr; }

 private:
  std::vector<const GradNode*> nodes_;
};

/// The gradients of an op's inputs, asked for by position.
class Grads {
 public:
  explicit Grads(const std::vector<std::shared_ptr<GradNode>>& nodes) : nodes_(nodes) {}
  bool wants(int i) const { return nodes_[static_cast<size_t>(i)] != nullptr; }
  IndexSetPtr rows(int i) const { return wants(i) ? nodes_[static_cast<size_t>(i)]->rows : nullptr; }
  /// Memory to write the gradient of input i to: (T, …) or compactly for rows(i). Ask only if wants(i).
  GradOut out(int i) { return detail::grad_out(*nodes_[static_cast<size_t>(i)]); }
  /// Hands over a finished gradient (shared memory is fine). Does nothing if input i wants none.
  void give(int i, Tensor grad) {
    if (wants(i)) detail::give_grad(*nodes_[static_cast<size_t>(i)], std::move(grad));
  }

 private:
  const std::vector<std::shared_ptr<GradNode>>& nodes_;
};

class TapeRecord {
 public:
  virtual ~TapeRecord() = default;
  virtual const char* name() const = 0;
  /// Consumes the gradients of the outputs and writes those of the inputs.
  virtual void run_backward() = 0;

  uint64_t sequence = 0;
  std::vector<std::shared_ptr<GradNode>> inputs;
  std::vector<std::weak_ptr<GradNode>> outputs;
};

/// Runs back from `root`, seeded with `seed` (ones where undefined), and adds into the gradients of leaves. The tape
/// behind `root` is consumed: each op's saved tensors are released as soon as it has run.
void backward(const Var& root, Tensor seed = {});

/// A value that a gradient enters at: `seed`, or ones where it is undefined.
struct Root {
  Var value;
  Tensor seed;
};

/// The same from several values at once, whose tapes may share records: backward(Σ ⟨seed, value⟩). Every one of them
/// must have something trainable behind it.
void backward(const std::vector<Root>& roots);

namespace detail {

uint64_t next_sequence();

/// A node for an output of `record`. `rows`: the only rows the op wants a gradient for.
std::shared_ptr<GradNode> output_node(const Tensor& value, const std::shared_ptr<TapeRecord>& record,
                                      IndexSetPtr rows = nullptr);

template <class Op, size_t kOutputs>  // kOutputs == 0: forward returns one Tensor
class OpRecord final : public TapeRecord {
 public:
  explicit OpRecord(Op op) : op_(std::move(op)) {}
  const char* name() const override { return Op::kName; }
  Op& op() { return op_; }
  void run_backward() override {
    Grads grads(inputs);
    if constexpr (kOutputs == 0) {
      const auto node = outputs[0].lock();
      const Tensor dy = node ? take_grad(*node) : Tensor();
      if (!dy.defined()) return;
      const TimedOp timed(Op::kName, true);
      op_.backward(dy, grads);
    } else {
      std::array<Tensor, kOutputs> dy;
      bool any = false;
      for (size_t i = 0; i < kOutputs; ++i) {
        if (const auto node = outputs[i].lock()) dy[i] = take_grad(*node);
        any = any || dy[i].defined();
      }
      if (!any) return;
      const TimedOp timed(Op::kName, true);
      op_.backward(dy, grads);
    }
  }

 private:
  Op op_;
};

template <class T>
struct OutputCount {
  static constexpr size_t value = 0;
};
template <size_t N>
struct OutputCount<std::array<Tensor, N>> {
  static constexpr size_t value = N;
};

}  // namespace detail

/// Runs an op. It is put on the tape only if an input needs a gradient. An op with `IndexSetPtr output_rows() const`
/// asks for the gradient of those rows of its (single) output only.
template <class Op, class... Inputs>
auto record(Op op, const Inputs&... inputs) {
  const Needs needs(grad_enabled() ? std::vector<const GradNode*>{inputs.node().get()...}
                                   : std::vector<const GradNode*>(sizeof...(Inputs), nullptr));
  auto result = [&] {
    const TimedOp timed(Op::kName, false);
    return op.forward(needs, inputs.value()...);
  }();
  constexpr size_t kOutputs = detail::OutputCount<decltype(result)>::value;
  if (const OpObserver* observer = OpObserver::current()) {
    if constexpr (kOutputs == 0) {
      observer->see(Op::kName, result);
    } else {
      for (const Tensor& output : result) observer->see(Op::kName, output);
    }
  }
  std::shared_ptr<detail::OpRecord<Op, kOutputs>> tape;
  if (needs.any()) {
    tape = std::make_shared<detail::OpRecord<Op, kOutputs>>(std::move(op));
    tape->sequence = detail::next_sequence();
    tape->inputs = {inputs.node()...};
  }
  if constexpr (kOutputs == 0) {
    if (!tape) return Var(std::move(result));
    IndexSetPtr rows;
    if constexpr (requires { tape->op().output_rows(); }) rows = tape->op().output_rows();
    auto node = detail::output_node(result, tape, std::move(rows));
    return Var(std::move(result), std::move(node));
  } else {
    std::array<Var, kOutputs> vars;
    for (size_t i = 0; i < kOutputs; ++i) {
      if (!result[i].defined()) {
        if (tape) tape->outputs.emplace_back();
        continue;
      }
      auto node = tape ? detail::output_node(result[i], tape) : nullptr;
      vars[i] = Var(std::move(result[i]), std::move(node));
    }
    return vars;
  }
}

}  // namespace molt

#include "molt/autograd/tape.h"

#include <algorithm>
#include <atomic>
#include <unordered_set>

#include "molt/autograd/recompute.h"
#include "molt/base/error.h"

namespace molt {
namespace {

thread_local bool enabled = true;
thread_local OpObserver* observer = nullptr;

}  // namespace

NoGrad::NoGrad() : before_(enabled) { enabled = false; }
NoGrad::~NoGrad() { enabled = before_; }
bool grad_enabled() { return enabled; }

OpObserver::OpObserver(See see) : see(std::move(see)), before_(std::exchange(observer, this)) {}
OpObserver::~OpObserver() { observer = before_; }
OpObserver* OpObserver::current() { return observer; }

bool detail::exchange_grad_enabled(bool value) { return std::exchange(enabled, value); }

namespace detail {

uint64_t next_sequence() {
  static std::atomic<uint64_t> counter{0};
  return ++counter;
}

std::shared_ptr<GradNode> output_node(const Tensor& value, const std::shared_ptr<TapeRecord>& record,
                                      IndexSetPtr rows) {
  auto node = std::make_shared<GradNode>();
  node->shape = value.shape();
  if (rows) node->shape[0] = static_cast<int64_t>(rows->size());
  // A value kept in bf16 has its gradient in bf16; whoever makes one sees to it that nothing is added up there.
  const Dtype dtype = value.dtype();
  node->dtype = dtype == Dtype::kF64 || dtype == Dtype::kBf16 ? dtype : Dtype::kF32;
  node->device = value.device();
  node->rows = std::move(rows);
  node->producer = record;
  record->outputs.push_back(node);
  return node;
}

}  // namespace detail

void backward(const Var& root, Tensor seed) { backward({{root, std::move(seed)}}); }

void backward(const std::vector<Root>& roots) {
  auto producer_of = [](const GradNode& node) { return node.parent ? node.parent->producer : node.producer; };
  std::vector<std::shared_ptr<TapeRecord>> order;
  std::unordered_set<const TapeRecord*> seen;
  // Consumers alone keep a value's node, and they go one by one; a gradient must wait there for its producer. A slice
  // also remembers which columns it wrote. Nodes are empty once their producer ran, so all may stay to the end.
  std::vector<std::shared_ptr<GradNode>> nodes;
  std::vector<std::shared_ptr<TapeRecord>> pending;
  for (const Root& root : roots) {
    MOLT_CHECK(root.value.needs_grad(), "backward: nothing behind this value is trainable");
    Tensor seed = root.seed;
    if (!seed.defined()) {
      seed = Tensor::empty(root.value.value().shape(), root.value.node()->dtype, root.value.node()->device);
      seed.fill(1);
    }
    detail::give_grad(*root.value.node(), std::move(seed));
    pending.push_back(producer_of(*root.value.node()));
  }
  while (!pending.empty()) {
    auto record = std::move(pending.back());
    pending.pop_back();
    if (!record || !seen.insert(record.get()).second) continue;
    for (const auto& input : record->inputs) {
      if (!input) continue;
      pending.push_back(producer_of(*input));
      nodes.push_back(input);
    }
    order.push_back(std::move(record));
  }
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a->sequence < b->sequence; });
  NoGrad no_grad;
  while (!order.empty()) {
    const auto record = std::move(order.back());
    order.pop_back();
    record->run_backward();
    // The nodes of its outputs may outlive this call in somebody's Var; they must not keep the op's tensors alive.
    for (const auto& weak : record->outputs) {
      if (const auto node = weak.lock()) node->producer.reset();
    }
    record->inputs.clear();
  }
  for (const auto& node : nodes) {
    if (node->parent) detail::settle_slices(*node->parent);  // of leaves: every other gradient has been consumed
  }
}

}  // namespace molt

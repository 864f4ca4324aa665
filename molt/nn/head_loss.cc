#include "molt/nn/head_loss.h"

#include <algorithm>

#include "molt/autograd/tape.h"
#include "molt/base/error.h"
#include "molt/device/softmax_loss.h"
#include "molt/ops/cross_entropy.h"
#include "molt/tensor/matrix_view.h"

namespace molt::nn {
namespace {

constexpr int64_t kChunkElements = int64_t{1} << 23;  // logits alive at a time: 32 MB in f32

/// Hands on the gradient that the chunks have left behind.
struct FinishedLoss {
  static constexpr const char* kName = "head_loss";
  Tensor sum, dx;

  Tensor forward(const Needs&, const Tensor&) { return sum; }
  void backward(const Tensor& dy, Grads& d) const {
    MOLT_CHECK(dy.values()[0] == 1, "head_loss: seeded with ", dy.values()[0], "; its gradients were made with 1");
    d.give(0, dx);
  }
};

}  // namespace

Var head_loss(const Context& c, const Linear& head, int64_t vocabulary, const Var& x,
              const std::vector<int32_t>& labels) {
  const TimedSection timed("head");
  const int64_t rows = x.value().rows();
  const bool train = x.needs_grad() && grad_enabled();
  const PackedMatrix* weight = head.plain(c);
  if (weight && x.value().dtype() != Dtype::kF64 && softmax_loss_available(*weight, train)) {
    const TimedOp op("softmax_loss", false);
    const Tensor dx = train ? x.value().like(x.value().shape(), Dtype::kF32) : Tensor();
    const double sum = softmax_loss(*weight, matrix_view(x.value()), labels, train ? matrix_view(dx) : Matrix{});
    return record(FinishedLoss{Tensor::from<double>({sum}, {1}), dx}, x);
  }
  const int64_t chunk = std::clamp<int64_t>(kChunkElements / vocabulary, 16, 1024);
  Tensor sum = Tensor::zeros({1}, Dtype::kF64, x.value().device());  // as cross_entropy sums
  Tensor dx = train ? x.value().like(x.value().shape()) : Tensor();
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t count = std::min(chunk, rows - begin);
    const Tensor part = x.value().row_range(begin, count);
    const Var in = dx.defined() ? Var::leaf(part) : Var(part);
    const std::vector<int32_t> part_labels(labels.begin() + begin, labels.begin() + begin + count);
    const Var loss = ops::cross_entropy(head(c, in), part_labels);
    sum.add(loss.value());
    if (loss.needs_grad()) backward(loss);
    if (dx.defined()) dx.row_range(begin, count).copy_from(in.grad());
  }
  return record(FinishedLoss{sum, dx}, x);
}

}  // namespace molt::nn

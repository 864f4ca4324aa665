#include "molt/ops/cross_entropy.h"

#include <cmath>

namespace molt::ops {
namespace {

void check_labels(const Tensor& logits, const std::vector<int32_t>& labels) {
  MOLT_CHECK(logits.rank() == 2 && logits.dim(1) > 0, "cross_entropy: logits are (T, V), got ",
             shape_str(logits.shape()));
  MOLT_CHECK(static_cast<int64_t>(labels.size()) == logits.dim(0), "cross_entropy: ", labels.size(), " labels for ",
             logits.dim(0), " rows of logits");
  for (size_t t = 0; t < labels.size(); ++t)
    MOLT_CHECK(labels[t] == kIgnore || (labels[t] >= 0 && labels[t] < logits.dim(1)), "cross_entropy: label ",
               labels[t], " at row ", t, ", the vocabulary has ", logits.dim(1), " entries");
}

double log_prob(const Tensor& logits, const Tensor& stats, int64_t row, int32_t id) {
  const double* s = stats.data<double>() + 2 * row;
  const double logit = with_compute_type(
      logits.dtype(), [&](auto t) { return static_cast<double>(logits.data<decltype(t)>()[row * logits.ld() + id]); });
  return logit - s[0] - std::log(s[1]);
}

}  // namespace

Tensor CrossEntropy::forward(const Needs& needs, const Tensor& logits_in) {
  check_labels(logits_in, labels);
  Tensor sums = logits_in.like({logits_in.dim(0), 2}, Dtype::kF64);
  if (!labels.empty()) cross_entropy_kernels.at(logits_in.device()).row_stats(logits_in, labels, sums);
  double total = 0;
  for (size_t t = 0; t < labels.size(); ++t) {
    if (labels[t] != kIgnore) total -= log_prob(logits_in, sums, static_cast<int64_t>(t), labels[t]);
  }
  if (needs.any()) logits = logits_in, stats = sums;
  return Tensor::from<double>({total}, {1});
}

void CrossEntropy::backward(const Tensor& dy, Grads& d) const {
  cross_entropy_kernels.at(logits.device()).gradient(logits, labels, stats, dy.data<double>()[0], logits);
  d.give(0, logits);
}

RowLogProbs row_log_probs(const Tensor& logits, const std::vector<int32_t>& ids) {
  RowLogProbs result;
  if (logits.rows() == 0) return result;
  if (!ids.empty()) check_labels(logits, ids);
  const Tensor stats = logits.like({logits.dim(0), 2}, Dtype::kF64);
  const CrossEntropyKernels& kernels = cross_entropy_kernels.at(logits.device());
  kernels.row_stats(logits, {}, stats);
  result.argmax.resize(static_cast<size_t>(logits.dim(0)));
  kernels.argmax(logits, stats, result.argmax);
  for (size_t t = 0; t < ids.size(); ++t)
    result.log_prob.push_back(ids[t] == kIgnore ? 0 : log_prob(logits, stats, static_cast<int64_t>(t), ids[t]));
  return result;
}

}  // namespace molt::ops

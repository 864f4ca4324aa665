// The loss of a language model: −log softmax(logits)[label], summed over the rows that have a label.
#pragma once

#include <cstdint>
#include <vector>

#include "molt/autograd/tape.h"
#include "molt/device/kernel_table.h"

namespace molt::ops {

/// A row with this label counts for nothing.
inline constexpr int32_t kIgnore = -100;

struct CrossEntropyKernels {
  /// For rows t of logits (T, V), f32 or f64: stats (T, 2) f64 gets m = max_v logits and Σ_v exp(logits − m). A NaN
  /// among the logits makes the sum NaN. Rows whose label is kIgnore are left out, unless `labels` is empty.
  void (*row_stats)(const Tensor& logits, const std::vector<int32_t>& labels, const Tensor& stats) = nullptr;
  /// out[t] = (softmax(logits[t]) − onehot(labels[t])) · seed; zeros for kIgnore. `out` may be the logits themselves.
  void (*gradient)(const Tensor& logits, const std::vector<int32_t>& labels, const Tensor& stats, double seed,
                   const Tensor& out) = nullptr;
  /// The lowest v with logits[t, v] = stats[t, 0].
  void (*argmax)(const Tensor& logits, const Tensor& stats, std::vector<int32_t>& out) = nullptr;
};
inline constinit KernelTable<CrossEntropyKernels> cross_entropy_kernels{"cross_entropy"};

struct CrossEntropy {
  static constexpr const char* kName = "cross_entropy";
  std::vector<int32_t> labels{};
  Tensor logits{}, stats{};  // saved for backward; logits become the gradient there

  Tensor forward(const Needs& needs, const Tensor& logits_in);
  void backward(const Tensor& dy, Grads& d) const;
};

/// logits (T, V) f32 or f64, T labels in [0, V) or kIgnore -> (1) f64: the sum, not the mean, so that the count can be
/// divided out last. It consumes the logits: backward writes their gradient, (softmax − onehot) · seed, into their
/// memory, so nobody may read them after it. A label out of range throws InternalError.
inline Var cross_entropy(const Var& logits, std::vector<int32_t> labels) {
  return record(CrossEntropy{std::move(labels)}, logits);
}

struct RowLogProbs {
  std::vector<double> log_prob;  ///< log softmax(logits[t])[ids[t]]; 0 where the id is kIgnore
  std::vector<int32_t> argmax;   ///< the most likely id of each row, the lowest one among equals
};

/// What evaluation asks of logits (T, V) f32 or f64. With no ids at all, only argmax is filled.
RowLogProbs row_log_probs(const Tensor& logits, const std::vector<int32_t>& ids);

}  // namespace molt::ops

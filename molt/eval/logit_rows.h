// What decoding asks of a batch of logits: the best token, the best few with their log-probabilities.
#pragma once

#include <cstdint>
#include <vector>

#include "molt/tensor/tensor.h"

namespace molt::eval {

/// A token and its score (a logit, or a log-probability).
struct ScoredToken {
  int32_t token = 0;
  double score = 0;
};

/// Orders by score, the lower id first among equals.
inline bool better(const ScoredToken& a, const ScoredToken& b) {
  return a.score != b.score ? a.score > b.score : a.token < b.token;
}

/// Keeps the `count` best, best first.
void keep_best(std::vector<ScoredToken>& tokens, int64_t count);

/// Logits (R, V), f32 or f64, with log Σ exp of each row. Rows with a NaN throw UsageError: their model is broken.
class LogitRows {
 public:
  explicit LogitRows(Tensor logits);

  int64_t count() const { return logits_.dim(0); }
  int64_t vocabulary() const { return logits_.dim(1); }
  /// log Σ_v exp(logits[row, v]).
  double log_sum(int64_t row) const;
  /// The token with the highest logit, the lowest id among equals.
  int32_t argmax(int64_t row) const { return argmax_[static_cast<size_t>(row)]; }
  double logit(int64_t row, int64_t token) const;
  /// log softmax(logits[row])[token].
  double log_prob(int64_t row, int64_t token) const { return logit(row, token) - log_sum(row); }
  /// The `count` tokens with the highest logits, best first, scored with log-probabilities.
  std::vector<ScoredToken> best(int64_t row, int64_t count) const;
  /// All of a row, scored with logits.
  std::vector<ScoredToken> all(int64_t row) const;

 private:
  Tensor logits_, stats_;
  std::vector<int32_t> argmax_;
};

}  // namespace molt::eval

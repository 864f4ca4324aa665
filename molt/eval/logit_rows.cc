#include "molt/eval/logit_rows.h"

#include <algorithm>
#include <cmath>

#include "molt/base/error.h"
#include "molt/ops/cross_entropy.h"

namespace molt::eval {

void keep_best(std::vector<ScoredToken>& tokens, int64_t count) {
  const auto middle = tokens.begin() + std::min<int64_t>(count, static_cast<int64_t>(tokens.size()));
  std::partial_sort(tokens.begin(), middle, tokens.end(), better);
  tokens.erase(middle, tokens.end());
}

LogitRows::LogitRows(Tensor logits) : logits_(std::move(logits)) {
  MOLT_CHECK(logits_.rank() == 2, "logit rows: expected (rows, V), got ", shape_str(logits_.shape()));
  const auto& kernels = ops::cross_entropy_kernels.at(logits_.device());
  stats_ = logits_.like({count(), 2}, Dtype::kF64);
  argmax_.resize(static_cast<size_t>(count()));
  if (count() == 0) return;
  kernels.row_stats(logits_, {}, stats_);
  kernels.argmax(logits_, stats_, argmax_);
  for (int64_t row = 0; row < count(); ++row) {
    if (std::isnan(log_sum(row)))
      usage_error("decoding: the model's logits are not numbers (NaN); did its weights or its adapter diverge?");
  }
}

double LogitRows::log_sum(int64_t row) const {
  const double* s = stats_.data<double>() + 2 * row;
  return s[0] + std::log(s[1]);
}

double LogitRows::logit(int64_t row, int64_t token) const {
  return with_compute_type(logits_.dtype(),
                           [&](auto t) -> double { return logits_.data<decltype(t)>()[row * logits_.ld() + token]; });
}

std::vector<ScoredToken> LogitRows::best(int64_t row, int64_t count) const {
  MOLT_CHECK(count > 0, "logit rows: the best ", count);
  count = std::min(count, vocabulary());
  std::vector<ScoredToken> heap;  // the worst of the best so far on top
  heap.reserve(static_cast<size_t>(count) + 1);
  with_compute_type(logits_.dtype(), [&](auto t) {
    const auto* x = logits_.data<decltype(t)>() + row * logits_.ld();
    for (int64_t v = 0; v < vocabulary(); ++v) {
      // Ids rise, so an equal score never displaces one that is there.
      if (static_cast<int64_t>(heap.size()) == count && !(x[v] > heap.front().score)) continue;
      heap.push_back({static_cast<int32_t>(v), x[v]});
      std::push_heap(heap.begin(), heap.end(), better);
      if (static_cast<int64_t>(heap.size()) <= count) continue;
      std::pop_heap(heap.begin(), heap.end(), better);
      heap.pop_back();
    }
  });
  std::sort_heap(heap.begin(), heap.end(), better);
  const double log_sum = this->log_sum(row);
  for (ScoredToken& token : heap) token.score -= log_sum;
  return heap;
}

std::vector<ScoredToken> LogitRows::all(int64_t row) const {
  std::vector<ScoredToken> tokens(static_cast<size_t>(vocabulary()));
  with_compute_type(logits_.dtype(), [&](auto t) {
    const auto* x = logits_.data<decltype(t)>() + row * logits_.ld();
    for (int64_t v = 0; v < vocabulary(); ++v) tokens[static_cast<size_t>(v)] = {static_cast<int32_t>(v), x[v]};
  });
  return tokens;
}

}  // namespace molt::eval

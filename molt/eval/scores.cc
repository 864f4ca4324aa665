#include "molt/eval/scores.h"

#include <cmath>

#include "molt/base/error.h"

namespace molt::eval {

ClassScores class_scores(const std::vector<int32_t>& expected, const std::vector<int32_t>& predicted, int32_t classes) {
  MOLT_CHECK(expected.size() == predicted.size() && classes > 0, "class scores: ", expected.size(), " expected, ",
             predicted.size(), " predicted, ", classes, " classes");
  const size_t outside = static_cast<size_t>(classes);
  std::vector<double> hits(outside), expected_times(outside + 1), predicted_times(outside + 1);
  ClassScores scores;
  for (size_t i = 0; i < expected.size(); ++i) {
    MOLT_CHECK(expected[i] >= 0 && expected[i] < classes && predicted[i] >= kOutside && predicted[i] < classes,
               "class scores: expected ", expected[i], ", predicted ", predicted[i], " of ", classes, " classes");
    const size_t e = static_cast<size_t>(expected[i]);
    const size_t p = predicted[i] == kOutside ? outside : static_cast<size_t>(predicted[i]);
    ++expected_times[e];
    ++predicted_times[p];
    if (e == p) ++hits[e], ++scores.correct;
  }
  scores.examples = static_cast<int64_t>(expected.size());
  if (expected.empty()) return scores;

  const double s = static_cast<double>(scores.examples), c = static_cast<double>(scores.correct);
  scores.accuracy = c / s;
  double both = 0, predicted_squares = 0, expected_squares = 0, f1_sum = 0;
  int seen = 0;
  for (size_t k = 0; k <= outside; ++k) {
    both += predicted_times[k] * expected_times[k];
    predicted_squares += predicted_times[k] * predicted_times[k];
    expected_squares += expected_times[k] * expected_times[k];
  }
  // 2 tp + fp + fn = times predicted + times expected.
  auto f1 = [&](size_t k) {
    const double times = predicted_times[k] + expected_times[k];
    return times > 0 ? 2 * hits[k] / times : 0;
  };
  for (size_t k = 0; k < outside; ++k) {
    if (predicted_times[k] + expected_times[k] == 0) continue;
    f1_sum += f1(k);
    ++seen;
  }
  const double product = (s * s - predicted_squares) * (s * s - expected_squares);
  scores.matthews = product > 0 ? (c * s - both) / std::sqrt(product) : 0;
  scores.f1_macro = f1_sum / seen;
  if (classes == 2) scores.f1_binary = f1(1);
  return scores;
}

}  // namespace molt::eval

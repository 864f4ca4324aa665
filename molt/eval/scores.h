// Scores of a classifier, from its confusion matrix.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace molt::eval {

/// A prediction that is none of the classes. It is wrong, whatever was expected.
inline constexpr int32_t kOutside = -1;

struct ClassScores {
  int64_t examples = 0;
  int64_t correct = 0;
  double accuracy = 0;
  /// Matthews' correlation of K classes (Gorodkin 2004): (c s − Σ p_k t_k) / √((s² − Σ p_k²)(s² − Σ t_k²)), with s
  /// examples, c of them right, class k predicted p_k times and expected t_k times; "outside" is a class of its own
  /// that is never expected. 0 where a factor is 0.
  double matthews = 0;
  /// Mean of F1 = 2 tp / (2 tp + fp + fn) over the classes that were expected or predicted.
  double f1_macro = 0;
  /// F1 of class 1, as GLUE reports it for MRPC and QQP; of two classes only.
  std::optional<double> f1_binary;
};

/// Scores of predictions (a class or kOutside) against what was expected (a class), over `classes` classes.
ClassScores class_scores(const std::vector<int32_t>& expected, const std::vector<int32_t>& predicted, int32_t classes);

}  // namespace molt::eval

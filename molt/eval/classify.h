// Classification by label tokens: the class whose tokens are the likeliest after the prompt.
#pragma once

#include <cstdint>
#include <vector>

#include "molt/data/encode.h"
#include "molt/eval/model_view.h"
#include "molt/eval/perplexity.h"
#include "molt/eval/scores.h"

namespace molt::eval {

struct ClassifyOptions {
  int64_t rows = 2048;      ///< rows in one pass. Changes speed and memory only
  int64_t batch_size = 32;  ///< prompts in one pass. Changes speed and memory only
};

/// What the model says of one prompt.
struct ClassPrediction {
  std::vector<double> log_probs;  ///< per class: Σ log p(its tokens | prompt)
  int32_t best = 0;               ///< the class with the highest, the first among equals
  /// What greedy decoding would say: the class (the longest one) each of whose tokens is the most likely of the whole
  /// vocabulary; kOutside if there is none.
  int32_t free = kOutside;
};

/// Predictions for prompts, given the tokens of each class (LabelSet::ids). Throws UsageError for an empty prompt, a
/// class without tokens, or ids outside the vocabulary.
std::vector<ClassPrediction> classify(const ModelView& model, const std::vector<std::vector<int32_t>>& prompts,
                                      const std::vector<std::vector<int32_t>>& classes,
                                      const ClassifyOptions& options = {}, const Progress& progress = {});

struct Classification {
  std::vector<int32_t> expected;
  std::vector<ClassPrediction> predictions;
  ClassScores restricted;  ///< the model may only choose among the classes
  ClassScores free;        ///< it may say anything; what is no class is wrong
  int64_t outside = 0;     ///< how often that was so
};

/// The class that each question's first reference names. Throws UsageError at a question where it is none.
std::vector<int32_t> expected_classes(const std::vector<data::EvalExample>& questions, const data::LabelSet& labels);

/// Classifies questions whose first reference names the right class. Throws UsageError at a question whose reference is
/// no class.
Classification evaluate_classes(const ModelView& model, const std::vector<data::EvalExample>& questions,
                                const data::LabelSet& labels, const ClassifyOptions& options = {},
                                const Progress& progress = {});

}  // namespace molt::eval

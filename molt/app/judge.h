// Judges a model on a recipe's data: loss and perplexity always, and the task's own metric.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "molt/app/recipe.h"
#include "molt/data/load.h"
#include "molt/eval/model_view.h"
#include "molt/text/tokenizer.h"
#include "molt/train/report.h"
#include "molt/train/trainer.h"

namespace molt::app {

struct Judgement {
  train::Scores scores;  ///< loss, perplexity, then the metric's
  std::string main;      ///< the score that counts
  std::vector<train::SampleRow> samples;
  std::string data;      ///< what it was judged on: "test" or "validation"
  int64_t examples = 0;  ///< how many of them

  /// "300 examples of the test data"
  std::string describe() const;
};

using JudgeProgress = std::function<void(int64_t done, int64_t total)>;

/// Loss and perplexity on a source, through to the first `limit` samples (0: all).
train::Scores likelihood_scores(const eval::ModelView& view, const data::Source& source, int64_t limit,
                                const JudgeProgress& progress = {});

/// Throws UsageError where judge() would, as far as the recipe alone tells.
void check_judge(const Recipe& recipe);

/// Throws UsageError where judge() would for this data, so that nobody trains for hours to learn it. Data that has
/// neither test nor validation passes.
void check_judge(const Recipe& recipe, const data::Data& data, const data::Encoder& encoder);

/// The recipe's metric on its test data, or on its validation data where there is no test. Throws UsageError if it has
/// neither.
Judgement judge(const eval::ModelView& view, const Recipe& recipe, const data::Data& data,
                const text::Tokenizer& tokenizer, const data::Encoder& encoder, const JudgeProgress& progress = {});

}  // namespace molt::app

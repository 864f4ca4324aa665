// `molt search`: which combination of methods does best on the validation data, and with which settings. The two steps
// of MambaPEFT's search (Yoshimura et al., 2025), greedily: first the combination, every method at its smallest; then
// its settings. A trial is a run like those of `molt compare`; one that has finished is not run again, so an
// interrupted search goes on where it was.
#pragma once

#include <string>
#include <vector>

#include "molt/app/compare.h"

namespace molt::app {

struct SearchResult {
  bool finished = false;
  train::ComparisonReport report;  ///< every trial, in the order in which they were made
  std::string page;                ///< path of report.html
  std::string winner;              ///< its name among the trials
  std::string recipe;              ///< path of best.yaml, which trains the winner and judges it on the test data
};

/// Throws UsageError for a recipe without `search:` or validation data, and before anything runs where a candidate or a
/// setting to try cannot be read. What only the model can tell (a target that matches nothing) is found by the trial:
/// an error for a candidate alone, else a failed trial.
SearchResult run_search(const std::string& recipe, const std::vector<std::string>& overrides,
                        const TrainRunOptions& options);

}  // namespace molt::app

// What a run will be, before it runs: what trains, memory, work and time. Counts and FLOPs are computed from shapes;
// memory and time are measured on a few layers of the same kind and carried over to all of them. No weight is read.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "molt/app/calibrate.h"
#include "molt/app/flops.h"
#include "molt/app/forecast.h"
#include "molt/app/prepare.h"
#include "molt/app/recipe.h"
#include "molt/base/json.h"
#include "molt/train/span_pass.h"

namespace molt::app {

struct PlanOptions {
  double seconds = 5;                               ///< for measuring a run's speed; 0: no times
  std::function<void(std::string_view)> sink = {};  ///< messages; may be empty
};

struct MethodPlan {
  std::string name, coverage;
  int64_t trainable = 0;
};

/// What an epoch holds; a step is a batch, or several under gradient accumulation.
struct DataPlan {
  int64_t examples = 0;  ///< of plain text: windows
  int64_t tokens = 0, labelled = 0;
  double steps_per_epoch = 0;
  double step_tokens = 0, step_labelled = 0;  ///< means
  int64_t most_tokens = 0;                    ///< at a time, in a batch of this run or a span
  int64_t sizes = 1;                          ///< different numbers of tokens in batches
  int64_t most_pieces = 1;                    ///< that a sample longer than span_length is cut into
  std::vector<int64_t> cut = {};              ///< for each such sample of `looked` batches, its pieces but the last
  int64_t looked = 1;
  double step_again = 0;  ///< of a step's tokens, those that run forward twice because of that
  double step_known = 0;  ///< of these, those whose products are known the second time
  int64_t validation_tokens = 0, validation_labelled = 0;  ///< in one evaluation
};

/// A stretch of training with trainables of its own.
struct PhasePlan {
  std::string name;
  int64_t steps = 0, trainable = 0;
  TokenFlops flops;
  StepRates rates;
  double step_flops = 0, step_seconds = 0;  ///< of a mean step
  MemoryPlan plain, recomputed;             ///< without and with recomputation
  int64_t products = 0;                     ///< where samples are cut: forecast_products()
};

struct RunPlan {
  std::string name, model;
  int64_t layers = 0, d_model = 0, vocabulary = 0;
  nn::Precision precision;
  bool plain = false;                ///< nothing trains: a variant that only judges the base
  int64_t trainable = 0, total = 0;  ///< as training reports them
  std::vector<MethodPlan> methods;
  DataPlan data;
  std::vector<PhasePlan> phases;
  bool recompute = false;
  bool chosen = false;  ///< … by max_memory
  int64_t max_memory = 0;
  int64_t span_bytes = 0;  ///< most that spans may keep of their first run
  train::SpanShare kept;   ///< what those of the longest sample do
  int64_t kept_bytes = 0;  ///< what that takes
  int64_t evaluations = 0;
  double evaluation_seconds = 0;  ///< of all of them together

  const PhasePlan& training() const { return phases.back(); }
  int64_t steps() const;
  double seconds() const;  ///< training and evaluations; 0 where nothing was measured
  /// At the highest point of all phases.
  MemoryPlan memory(bool recomputed) const;
  MemoryPlan memory() const { return memory(recompute); }
};

/// Plans a recipe file, or each variant of one with `compare:`. Throws UsageError for what training would refuse.
std::vector<RunPlan> make_plans(const std::string& recipe, const std::vector<std::string>& overrides,
                                const PlanOptions& options);

/// Plans one run.
RunPlan make_plan(const Recipe& recipe, const PreparedRun& prepared, const PlanOptions& options);

struct MemoryFit {
  bool recompute = false;
  int64_t span_bytes = 0;  ///< left for what spans keep of their first run
};

/// For a run with max_memory: what it must do to fit. Says what was found; throws UsageError where nothing fits.
MemoryFit fit_memory(const Recipe& recipe, const PreparedRun& prepared,
                     const std::function<void(const std::string&)>& say);

/// A plan as JSON: every number, in bytes, FLOPs and seconds.
OrderedJson plan_json(const RunPlan& plan);

}  // namespace molt::app

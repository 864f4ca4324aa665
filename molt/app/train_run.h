// `molt train`: from a recipe to a run directory.
// The directory's layout is train/run_directory.h's; beside it stand result.json and, where the whole model was
// trained, model/ (a plain checkpoint) in place of adapter/.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "molt/app/judge.h"
#include "molt/app/recipe.h"
#include "molt/train/report.h"

namespace molt::app {

struct TrainRunOptions {
  bool resume = false;
  bool tty = false;
  int width = 80;
  std::function<void(std::string_view)> sink;  ///< progress and messages; may be empty
  /// Called before the first step (true) and after the last (false). Only in between is should_stop asked, and has a
  /// run that is stopped anything to lose: before and after, a signal may end the program.
  std::function<void(bool)> on_steps;
  std::function<bool()> should_stop;
  std::string go_on;  ///< what to tell who stopped the run; empty: the command that resumes it
};

struct TrainRunResult {
  bool finished = false;
  std::string run_dir, product;  ///< product: adapter or model directory
  train::RunReport report;
  Judgement judgement;
};

/// Runs a recipe. Throws UsageError before anything is written where recipe, data or model cannot be used.
TrainRunResult run_training(const Recipe& recipe, const TrainRunOptions& options);

/// Version, host, processor, threads, …: what a report says of where it was made.
train::Facts environment(uint64_t seed);

/// "LoRA r=8 on in_proj, x_proj" and the like.
std::string describe_methods(const std::vector<MethodEntry>& methods);

}  // namespace molt::app

// The training loop: batches in, an adapter out. It knows phases, steps, schedules and checkpoints, but no method, no
// model family and no file format of the user's.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "molt/data/batch.h"
#include "molt/nn/language_model.h"
#include "molt/nn/method.h"
#include "molt/train/config.h"
#include "molt/train/metrics_log.h"
#include "molt/train/run_directory.h"

namespace molt::train {

using Scores = std::vector<std::pair<std::string, double>>;

/// What the program around the loop wants to hear, and decides.
struct TrainHooks {
  std::function<void(const StepRecord&, int64_t total_steps)> on_step;
  std::function<void(const EvalRecord&)> on_eval;
  std::function<void(const NoteRecord&)> on_note;
  /// Scores of the current model; "loss" picks the best. Empty: no evaluation.
  std::function<Scores(const nn::EditSet&)> evaluate;
  /// Asked after each step; true ends the run with a checkpoint (Ctrl-C).
  std::function<bool()> should_stop;
  /// Called before a checkpoint is written: what else it should keep, an object; given back by Trainer::extra().
  std::function<Json()> extra;
};

struct TrainResult {
  bool finished = false;  ///< false: stopped early; resume goes on
  int64_t steps = 0;      ///< in all phases
  int64_t tokens = 0;
  double seconds = 0;
  double last_loss = 0;
  int64_t best_step = -1;  ///< −1: never evaluated
  double best_loss = 0;
};

/// The phases of a run: those of the method that has more than one, or a single one. Throws UsageError where two have.
std::vector<nn::Phase> phases_of(const std::vector<nn::Method*>& methods);

/// Optimizer steps that a phase takes.
int64_t steps_of(const nn::Phase& phase, const TrainConfig& config, const data::BatchStream& stream);

/// Throws UsageError where a schedule, or what a method plans, does not fit into the steps of a phase.
void check_steps(const std::vector<nn::Method*>& methods, const TrainConfig& config, const data::BatchStream& stream);

/// Throws UsageError for two methods that train the same tensor, or rates that make no sense. Methods are attached.
void check_trainables(const std::vector<nn::Method*>& methods, const TrainConfig& config);

/// Throws UsageError for what run() would refuse: what check_steps() and check_trainables() do.
void check_run(const std::vector<nn::Method*>& methods, const TrainConfig& config, const data::BatchStream& stream);

class Trainer {
 public:
  /// `run`: where checkpoints go; null: none are kept. `identity`: what must not change between a
  /// checkpoint and its resumption (the resolved recipe).
  Trainer(nn::LanguageModel& model, std::vector<nn::Method*> methods, data::BatchStream& stream, TrainConfig config,
          uint64_t seed, const RunDirectory* run, std::string identity, TrainHooks hooks);
  ~Trainer();

  /// Goes back to the last checkpoint, if there is one. Returns its step, 0 without one. Throws UsageError if it is of
  /// another recipe.
  int64_t resume();
  /// What TrainHooks::extra had given when the checkpoint was written that resume() went back to; null without one.
  const Json& extra() const;

  /// Runs to the end or until should_stop. Afterwards edits() holds what was trained (the best, if asked for).
  TrainResult run();

  const nn::EditSet& edits() const;
  /// Optimizer steps in all phases.
  int64_t total_steps() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace molt::train

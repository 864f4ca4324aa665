// A small stand-in for a model: a few layers made like its first, weights at random, and all a training step needs.
// What a step of it takes in time and memory says what a step of the whole model will take.
#pragma once

#include <memory>
#include <vector>

#include "molt/app/recipe.h"
#include "molt/data/batch.h"
#include "molt/eval/model_view.h"
#include "molt/models/load.h"
#include "molt/nn/method.h"
#include "molt/optim/adamw.h"

namespace molt::app {

/// Seconds of the parts of one step.
struct StepLaps {
  double forward = 0, head = 0, backward = 0, update = 0;
  int64_t live_after_forward = 0;  ///< bytes in tensors (memory_use) when the layers have run
  int64_t products = 0;            ///< bytes that results of products hold until a second run
};

class Probe {
 public:
  struct Options {
    int layers = 0;    ///< 0: as few as say enough
    size_t phase = 0;  ///< of the methods' phases
    uint64_t seed = 42;
  };
  /// `like` needs no weights. With so few layers that caches hold what they would not hold of the whole model, steps
  /// would be too fast; so a small model is taken whole. A method that finds no target in so few layers is left out.
  Probe(const models::LoadedModel& like, const std::vector<MethodEntry>& methods, const Options& options);

  const nn::LanguageModel& model() const { return *loaded_.model; }
  int layers() const { return options_.layers; }
  /// Numbers that train.
  int64_t trainable_count() const { return optimizer_ ? optimizer_->trainable_count() : 0; }
  /// Bytes that a parameter takes once it is loaded, beside what is counted as trainable: packed copies, a table, a
  /// small tensor. `p`: of the model that the probe was made like.
  int64_t weight_bytes(const nn::Parameter& p) const;
  eval::ModelView view() const { return {model(), &edits_}; }

  /// A step as training makes it, at a learning rate of zero.
  StepLaps step(const data::Batch& batch, bool recompute);
  /// Layers and head without edits and without gradients.
  StepLaps plain(const data::Batch& batch) const;
  /// What a span's second run takes where its products are known; nothing but `forward` and `products`.
  StepLaps again(const data::Batch& batch) const;

 private:
  void fill();
  void attach();
  void bind();

  Options options_;
  models::LoadedModel loaded_;
  std::vector<std::unique_ptr<nn::Method>> methods_;
  nn::EditSet edits_;
  std::unique_ptr<optim::AdamW> optimizer_;
};

}  // namespace molt::app

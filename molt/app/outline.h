// A whole model with the methods of a recipe, without weights: what can be counted there is exact, and what cannot
// train is found before anything is read.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "molt/app/recipe.h"
#include "molt/models/load.h"
#include "molt/nn/method.h"

namespace molt::app {

struct Outline {
  models::LoadedModel loaded;
  std::vector<std::unique_ptr<nn::Method>> methods;  ///< attached
  nn::EditSet edits;

  /// `base`: with or without weights; none are taken from it. Throws UsageError as attaching to the model itself would.
  Outline(const Recipe& recipe, const models::LoadedModel& base);

  /// Binds the edits of a phase.
  void begin(size_t phase);
  /// Numbers of the base itself that train.
  int64_t base_trainable() const;
  /// Numbers that train in the phase that has begun.
  int64_t trainable() const;
};

/// Throws UsageError, beginning with `name`, for methods that cannot train the recipe's model, as far as they show
/// without weights.
void check_methods(const Recipe& recipe, const std::string& name);

}  // namespace molt::app

// `molt eval`: judges what a recipe made, an adapter, or a plain base.
#pragma once

#include <string>
#include <vector>

#include "molt/app/judge.h"
#include "molt/app/recipe.h"

namespace molt::app {

/// What is judged: a base with an adapter, or with each of several, or alone.
struct Subject {
  std::string model;                       ///< directory of a checkpoint
  std::vector<std::string> adapters = {};  ///< on top of it, as read_adapter_spec() takes them; several have names

  std::string describe() const;
};

/// `adapters` if some are given; else what the recipe's run directory holds (its adapter/, or its model/ where the
/// whole model was trained); else the recipe's plain base. Throws UsageError for a recipe that makes its model from
/// scratch and has not run.
Subject subject_of(const Recipe& recipe, const std::vector<std::string>& adapters);

/// Judges a subject on the recipe's test data, or its validation data where there is no test: one judgement per
/// adapter, in their order, or one of the base alone.
std::vector<Judgement> evaluate(const Subject& subject, const Recipe& recipe, const JudgeProgress& progress = {});

}  // namespace molt::app

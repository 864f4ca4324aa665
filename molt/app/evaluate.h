// `molt eval`: judges what a recipe made, an adapter, or a plain base.
#pragma once

#include <string>

#include "molt/app/judge.h"
#include "molt/app/recipe.h"

namespace molt::app {

/// What is judged.
struct Subject {
  std::string model;    ///< directory of a checkpoint
  std::string adapter;  ///< directory on top of it, or empty

  std::string describe() const;
};

/// `adapter` if it is given; else what the recipe's run directory holds (its adapter/, or its model/ where the whole
/// model was trained); else the recipe's plain base. Throws UsageError for a recipe that makes its model from scratch
/// and has not run.
Subject subject_of(const Recipe& recipe, const std::string& adapter);

/// Judges a subject on the recipe's test data, or its validation data where there is no test.
Judgement evaluate(const Subject& subject, const Recipe& recipe, const JudgeProgress& progress = {});

}  // namespace molt::app

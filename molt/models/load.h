// From a checkpoint directory to a language model with its weights.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "molt/io/checkpoint.h"
#include "molt/models/family.h"

namespace molt::models {

/// A model, and where its words come from.
struct LoadedModel {
  std::unique_ptr<nn::LanguageModel> model;
  const Family* family = nullptr;
  std::shared_ptr<const io::Checkpoint> checkpoint;  ///< null for a model initialised at random
  Json config;
};

/// Reads config.json and builds the model, without weights.
LoadedModel open_model(const std::string& directory, const nn::Precision& precision);

/// The same for a directory that may hold config.json alone; then there is no checkpoint.
LoadedModel open_outline(const std::string& directory, const nn::Precision& precision);

/// What keeps the checkpoint from filling the model, found without reading a number: parameters that are missing,
/// wrongly shaped or of a dtype Molt does not compute with; tensors that are no part of the model.
std::vector<std::string> weight_problems(const LoadedModel& loaded);

/// Throws UsageError with all weight_problems() there are.
void check_weights(const LoadedModel& loaded);

/// Reads every parameter into the model; what trains whole must be declared before. Missing, extra and wrongly shaped
/// tensors are reported all at once (UsageError).
void load_weights(LoadedModel& loaded);

/// Initialises every parameter as the family's reference does, from `seed`.
void initialise_weights(LoadedModel& loaded, uint64_t seed);

/// The checkpoint's spelling of a parameter, or empty if it has none.
std::string stored_name(const LoadedModel& loaded, const std::string& path);

}  // namespace molt::models

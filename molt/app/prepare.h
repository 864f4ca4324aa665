// From a recipe to all that a run starts from. Whatever can be wrong with model, tokenizer, data or methods is found
// here, before anything is written and before a weight is read; only text is tokenised while weights are.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "molt/app/recipe.h"
#include "molt/data/load.h"
#include "molt/models/load.h"
#include "molt/nn/method.h"
#include "molt/text/tokenizer.h"

namespace molt::app {

struct PrepareOptions {
  bool outline = false;  ///< a model directory with config.json alone will do
  /// attach_to_weights() may be done while text is tokenised in the background (PreparedRun::attached), which ends the
  /// other where it throws; never where a limit of memory is to be checked first.
  bool attach = false;
  bool tty = false;
  int width = 80;
  std::function<void(std::string_view)> sink = {};  ///< progress of tokenising; may be empty
};

struct PreparedRun {
  models::LoadedModel base;                          ///< without weights, unless attached
  std::vector<std::unique_ptr<nn::Method>> methods;  ///< declared
  text::Tokenizer tokenizer;
  data::Encoder encoder;
  data::Data data;
  std::unique_ptr<data::BatchStream> stream;  ///< of data.train
  bool attached = false;
};

/// Throws UsageError. Sets the number of threads.
PreparedRun prepare_run(const Recipe& recipe, const PrepareOptions& options);

/// Reads the weights of the base, or draws those of a model from scratch, and attaches the run's methods. Throws
/// UsageError.
void attach_to_weights(const Recipe& recipe, models::LoadedModel& base,
                       const std::vector<std::unique_ptr<nn::Method>>& methods);

/// Attaches methods to the model; what the trainer would refuse is refused here. Throws UsageError.
void attach_methods(const std::vector<std::unique_ptr<nn::Method>>& methods, const nn::LanguageModel& model);

/// The methods as training takes them.
std::vector<nn::Method*> method_list(const std::vector<std::unique_ptr<nn::Method>>& methods);

/// Whether the methods train every number of the base, so that the product is a model and no adapter.
bool trains_whole_model(const std::vector<std::unique_ptr<nn::Method>>& methods, const nn::LanguageModel& model);

/// Throws UsageError where what a run writes could not be used: an adapter of a base that is nowhere.
void check_product(const Recipe& recipe, const std::vector<std::unique_ptr<nn::Method>>& methods,
                   const nn::LanguageModel& model);

}  // namespace molt::app

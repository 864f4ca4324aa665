// Families: what a checkpoint's config.json means, as data. A family computes nothing; it plans layers and spells
// names.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "molt/base/json.h"
#include "molt/nn/language_model.h"

namespace molt::models {

struct GgufForm;  // molt/models/gguf_form.h

struct Family {
  const char* name;  ///< transformers' model_type
  /// Whether a config.json is of this family.
  bool (*recognises)(const Json& config);
  nn::LanguageModelPlan (*plan)(const Json& config, const std::string& where);
  /// Other spellings of a parameter's path in this family's checkpoints, in the order to try.
  std::vector<std::string> (*aliases)(const std::string& path);
  /// A config.json in transformers' form for a plan (for models trained from scratch).
  Json (*config)(const nn::LanguageModelPlan& plan);
  /// Values to start from when training from scratch.
  Tensor (*initial)(const nn::Parameter& parameter, const nn::LanguageModelPlan& plan, uint64_t seed);
  /// The family in GGUF; null where llama.cpp does not have it.
  const GgufForm* gguf = nullptr;
};

/// The family of a config.json. Throws UsageError naming the families there are.
const Family& family_of(const Json& config, const std::string& where);
const Family& family_named(const std::string& name);

extern const Family kMamba;

}  // namespace molt::models

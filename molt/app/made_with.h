// What a result was made with: data and base by their content. A recipe names files, and files change; results of the
// same names may stand beside each other only if the content was the same.
#pragma once

#include <map>
#include <string>

#include "molt/app/compare.h"
#include "molt/base/json.h"
#include "molt/data/load.h"

namespace molt::app {

/// Fingerprints by what they are of ("training data", "validation data", "test data"); what is not there is left out.
/// An object.
Json made_with(const data::Data& data);

/// Sees to it that variants whose recipes name the same data, tokenizer and model were made with the same.
class SameMaterial {
 public:
  /// `variant` is finished. Throws UsageError where its result.json says that it was made with other data or another
  /// base than a variant given before.
  void check(const Variant& variant);

 private:
  struct Result {
    std::string directory;
    Json made_with;
  };
  std::map<std::string, Result> first_;  // by what a recipe names
};

}  // namespace molt::app

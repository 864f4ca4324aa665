// `molt compare`: the same task under several methods, one table, one report. The recipe's `compare:` is a list of
// variants; each is the recipe with the variant's keys put over it. A variant that has finished is not run again, so an
// interrupted comparison goes on where it was.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "molt/app/train_run.h"

namespace molt::app {

/// One line of `compare:`.
struct Variant {
  std::string name, directory;
  bool plain = false;  ///< method: none; the base is judged as it is
  Recipe recipe;
};

/// The variants of a recipe file. `only`: their names; empty: all. Throws UsageError for a recipe without variants or a
/// name that is none.
std::vector<Variant> read_variants(const std::string& recipe, const std::vector<std::string>& overrides,
                                   const std::vector<std::string>& only, std::string& output_dir);

/// Runs a variant, going on where it was stopped, or takes the result of when it was run before. Nothing where it is
/// stopped again. Throws UsageError where its directory holds another recipe's.
std::optional<train::MethodResult> run_variant(const Variant& variant, const TrainRunOptions& options);

struct CompareResult {
  bool finished = false;
  train::ComparisonReport report;
  std::string page;  ///< path of report.html
};

/// Runs the variants of a recipe file. `only`: their names; empty: all. Throws UsageError for a recipe without variants
/// or a name that is none.
CompareResult run_comparison(const std::string& recipe, const std::vector<std::string>& overrides,
                             const std::vector<std::string>& only, const TrainRunOptions& options);

}  // namespace molt::app

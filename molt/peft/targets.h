// What a method's `target_modules` mean on a model, and how much of it they cover.
#pragma once

#include <string>
#include <vector>

#include "molt/nn/site.h"

namespace molt::peft {

/// All targets of a list, each once, in the model's order. Throws UsageError for one that matches nothing, and where
/// two overlap (a whole site and one of its slices).
std::vector<nn::Target> resolve_targets(const nn::SiteTable& sites, const std::vector<std::string>& targets,
                                        const std::vector<nn::SiteKind>& kinds);

/// "72 linears in 24 of 24 layers": the start-up check a user reads.
std::string coverage(const nn::SiteTable& sites, const std::vector<nn::Target>& targets);

}  // namespace molt::peft

// What methods can act on, as a reader wants it: targets alike in every layer on one line.
#pragma once

#include <string>
#include <vector>

#include "molt/models/load.h"
#include "molt/nn/site.h"

namespace molt::app {

/// Targets that differ in their layer only.
struct SiteGroup {
  std::string pattern;  ///< "backbone.layers.{0..23}.mixer.x_proj"; the label itself where there is one target
  nn::Target first;
  int64_t count = 0;
};

/// Every site of a model, in its order; those alike but for their layer (kind, shape and slices agree) as one group.
std::vector<SiteGroup> group_sites(const nn::SiteTable& sites);
/// The same for chosen targets.
std::vector<SiteGroup> group_targets(const std::vector<nn::Target>& targets);

/// The part whose weight a site shares ("backbone.embeddings" for a tied head), or empty.
std::string shares_weight_with(const nn::Site& site);

/// What one target string means on a model.
struct TargetMatch {
  std::vector<nn::Target> targets;  ///< of any kind
  std::string lora;                 ///< what LoRA with its defaults does there, or "" where it cannot act
  std::string full;                 ///< what training it whole means, or ""
};

/// `loaded`: a model without weights; it is not to be used for anything else afterwards, as training whole is declared
/// on it. Throws UsageError naming near candidates where nothing matches.
TargetMatch explain_target(models::LoadedModel& loaded, const std::string& target);

}  // namespace molt::app

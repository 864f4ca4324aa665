#include "molt/app/site_groups.h"

#include "molt/app/layer_pattern.h"
#include "molt/base/error.h"
#include "molt/base/format.h"
#include "molt/peft/full.h"
#include "molt/peft/lora.h"

namespace molt::app {
namespace {

/// What sites on one line agree in beside their path.
std::string kind_of(const nn::Site& site) {
  std::string kind = str(static_cast<int>(site.kind), shape_str(site.shape), site.ssm);
  for (const nn::Slice& s : site.slices) kind += str(" ", s.name, " ", s.begin, " ", s.size);
  return kind;
}

}  // namespace

std::vector<SiteGroup> group_targets(const std::vector<nn::Target>& targets) {
  std::vector<std::string> names, kinds;
  for (const nn::Target& t : targets) {
    names.push_back(t.label());
    kinds.push_back(kind_of(*t.site));
  }
  std::vector<SiteGroup> groups;
  for (const PatternGroup& group : group_by_layer(names, kinds))
    groups.push_back({group.pattern, targets[group.members[0]], static_cast<int64_t>(group.members.size())});
  return groups;
}

std::vector<SiteGroup> group_sites(const nn::SiteTable& sites) {
  std::vector<nn::Target> all;
  for (const nn::Site& site : sites.all()) all.push_back({&site, nullptr});
  return group_targets(all);
}

std::string shares_weight_with(const nn::Site& site) {
  if (!site.parameter) return "";
  const std::string& weight = site.parameter->path;
  if (weight == site.path || weight == site.path + ".weight") return "";
  const std::string end = ".weight";
  const bool ends = weight.size() > end.size() && weight.compare(weight.size() - end.size(), end.size(), end) == 0;
  return ends ? weight.substr(0, weight.size() - end.size()) : weight;
}

TargetMatch explain_target(models::LoadedModel& loaded, const std::string& target) {
  nn::LanguageModel& model = *loaded.model;
  using Kind = nn::SiteKind;
  TargetMatch match;
  match.targets = nn::match_target(
      model.sites(), target,
      {Kind::kLinear, Kind::kConv, Kind::kEmbedding, Kind::kParam, Kind::kTap, Kind::kState, Kind::kPrefix});
  // The methods themselves say whether they can act there.
  try {
    peft::LoraConfig config;
    config.target_modules = {target};
    peft::Lora lora(config, 0, Dtype::kF32);
    lora.attach(model.sites());
    match.lora = str(lora.coverage(), ", ", format_count(static_cast<double>(lora.trainable_count())),
                     " trainable at r=", config.r);
  } catch (const UsageError&) {
    // It cannot: the text stays empty.
  }
  try {
    peft::Full full(peft::FullConfig{{target}});
    full.declare(model.sites(), model.parameters());
    match.full = str(full.coverage(), ", ", format_count(static_cast<double>(full.trainable_count())), " trainable");
  } catch (const UsageError&) {
  }
  return match;
}

}  // namespace molt::app

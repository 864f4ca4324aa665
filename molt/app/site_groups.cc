#include "molt/app/site_groups.h"

#include <map>

#include "molt/base/error.h"
#include "molt/base/format.h"
#include "molt/peft/full.h"
#include "molt/peft/lora.h"

namespace molt::app {
namespace {

/// A path as what stands before and after its layer's number.
std::pair<std::string, std::string> around_layer(const nn::Site& site) {
  const std::string number = "." + std::to_string(site.layer) + ".";
  const size_t at = site.layer < 0 ? std::string::npos : site.path.find(number);
  if (at == std::string::npos) return {site.path, ""};
  return {site.path.substr(0, at + 1), site.path.substr(at + number.size() - 1)};
}

std::string alike_key(const nn::Target& t) {
  const auto [before, after] = around_layer(*t.site);
  std::string key =
      str(before, "\n", after, "\n", static_cast<int>(t.site->kind), shape_str(t.site->shape), t.site->ssm);
  for (const nn::Slice& s : t.site->slices) key += str("\n", s.name, " ", s.begin, " ", s.size);
  return key + (t.slice ? "\n:" + t.slice->name : "");
}

}  // namespace

std::string number_pattern(const std::vector<int>& numbers) {
  if (numbers.size() == 1) return std::to_string(numbers[0]);
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    text += (text.empty() ? "" : ",") + std::to_string(numbers[i]);
    if (last > i) text += (last == i + 1 ? "," : "..") + std::to_string(numbers[last]);
    i = last + 1;
  }
  return "{" + text + "}";
}

std::vector<SiteGroup> group_targets(const std::vector<nn::Target>& targets) {
  std::vector<SiteGroup> groups;
  std::vector<std::vector<int>> layers;
  std::map<std::string, size_t> known;
  for (const nn::Target& t : targets) {
    const auto [at, is_new] = known.emplace(alike_key(t), groups.size());
    if (is_new) {
      groups.push_back({"", t, 0});
      layers.emplace_back();
    }
    ++groups[at->second].count;
    layers[at->second].push_back(t.site->layer);
  }
  for (size_t i = 0; i < groups.size(); ++i) {
    SiteGroup& group = groups[i];
    const auto [before, after] = around_layer(*group.first.site);
    group.pattern = after.empty() ? before : before + number_pattern(layers[i]) + after;
    if (group.first.slice) group.pattern += ":" + group.first.slice->name;
  }
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
      model.sites(), target, {Kind::kLinear, Kind::kConv, Kind::kEmbedding, Kind::kParam, Kind::kTap, Kind::kState});
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
    peft::Full full({target});
    full.declare(model.sites(), model.parameters());
    match.full = str(full.coverage(), ", ", format_count(static_cast<double>(full.trainable_count())), " trainable");
  } catch (const UsageError&) {
  }
  return match;
}

}  // namespace molt::app

#include "molt/nn/site.h"

#include <algorithm>
#include <optional>
#include <regex>
#include <set>

#include "molt/base/error.h"
#include "molt/base/near.h"

namespace molt::nn {
namespace {

bool is_suffix(const std::string& path, const std::string& end) {
  if (path == end) return true;
  return path.size() > end.size() + 1 && path.compare(path.size() - end.size(), end.size(), end) == 0 &&
         path[path.size() - end.size() - 1] == '.';
}

std::string suggestions(const SiteTable& sites, const std::string& target, const std::vector<SiteKind>& kinds) {
  std::set<std::string> names;
  for (const Site& site : sites.all()) {
    if (std::find(kinds.begin(), kinds.end(), site.kind) == kinds.end()) continue;
    const std::string leaf = site.path.substr(site.path.rfind('.') + 1);
    names.insert(leaf);
    for (const Slice& slice : site.slices) names.insert(leaf + ":" + slice.name);
  }
  return nearest(target, {names.begin(), names.end()}, 6);
}

bool in_preset(const Site& site, const std::string& preset) {
  if (site.kind != SiteKind::kLinear) return false;
  if (preset == "all-linear") return site.layer >= 0;
  if (preset == "ssm") return site.ssm;
  return std::find(site.presets.begin(), site.presets.end(), preset) != site.presets.end();
}

}  // namespace

const std::vector<Preset>& target_presets() {
  static const std::vector<Preset> kAll = {{"all-linear", "every linear of the layers"},
                                           {"mixer", "linears of the blocks that mix tokens without attention"},
                                           {"ssm", "linears of the state-space part"},
                                           {"in_out", "projections into and out of such a block"},
                                           {"attention", "linears of attention"},
                                           {"mlp", "linears of the MLPs"}};
  return kAll;
}

std::vector<Preset> presets_of(const SiteTable& sites) {
  std::vector<Preset> found;
  for (const Preset& preset : target_presets()) {
    if (std::any_of(sites.all().begin(), sites.all().end(), [&](const Site& s) { return in_preset(s, preset.name); }))
      found.push_back(preset);
  }
  return found;
}

const char* site_kind_name(SiteKind kind) {
  static constexpr const char* kNames[] = {"linear", "conv", "embedding", "param", "tap", "state", "prefix"};
  return kNames[static_cast<int>(kind)];
}

const Site& SiteTable::add(Site site) {
  site.id = static_cast<int>(sites_.size());
  MOLT_CHECK(!find(site.path), "sites: two parts are called ", site.path);
  sites_.push_back(std::move(site));
  return sites_.back();
}

const Site* SiteTable::find(const std::string& path) const {
  for (const Site& site : sites_) {
    if (site.path == path) return &site;
  }
  return nullptr;
}

std::string Target::label() const { return slice ? site->path + ":" + slice->name : site->path; }

std::vector<Target> match_target(const SiteTable& sites, const std::string& target,
                                 const std::vector<SiteKind>& kinds) {
  const size_t colon = target.rfind(':');
  const std::string name = target.substr(0, colon);
  const std::string slice = colon == std::string::npos ? "" : target.substr(colon + 1);
  const auto& presets = target_presets();
  const bool preset = std::any_of(presets.begin(), presets.end(), [&](const Preset& p) { return name == p.name; });
  std::optional<std::regex> pattern;
  try {
    pattern.emplace(name);
  } catch (const std::regex_error&) {
    // Not a regular expression: it can still be a name.
  }
  std::vector<Target> found;
  for (const Site& site : sites.all()) {
    if (std::find(kinds.begin(), kinds.end(), site.kind) == kinds.end()) continue;
    const bool matches = preset ? in_preset(site, name)
                                : is_suffix(site.path, name) || (pattern && std::regex_match(site.path, *pattern));
    if (!matches) continue;
    if (slice.empty()) {
      found.push_back({&site, nullptr});
      continue;
    }
    for (const Slice& s : site.slices) {
      if (s.name == slice) found.push_back({&site, &s});
    }
  }
  if (found.empty() && preset) {
    std::string there;
    for (const Preset& p : presets_of(sites)) there += (there.empty() ? "" : ", ") + std::string(p.name);
    const bool linears = std::find(kinds.begin(), kinds.end(), SiteKind::kLinear) != kinds.end();
    usage_error("target '", target, "': ", linears ? "this model has no such part" : "presets are of linears only",
                !slice.empty() ? " or slice" : "", "; presets that mean something here: ", there,
                " (`molt sites MODEL` prints all)");
  }
  if (found.empty()) {
    usage_error("target '", target, "' matches nothing in this model; near names: ", suggestions(sites, target, kinds),
                " (`molt sites MODEL` prints all)");
  }
  return found;
}

}  // namespace molt::nn

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

}  // namespace

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
  std::optional<std::regex> pattern;
  try {
    pattern.emplace(name);
  } catch (const std::regex_error&) {
    // Not a regular expression: it can still be a name.
  }
  std::vector<Target> found;
  for (const Site& site : sites.all()) {
    if (std::find(kinds.begin(), kinds.end(), site.kind) == kinds.end()) continue;
    const bool matches = name == "all-linear"
                             ? site.kind == SiteKind::kLinear && site.layer >= 0
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
  if (found.empty()) {
    usage_error("target '", target, "' matches nothing in this model; near names: ", suggestions(sites, target, kinds),
                " (`molt sites MODEL` prints all)");
  }
  return found;
}

}  // namespace molt::nn

#include "molt/peft/targets.h"

#include <algorithm>
#include <set>

#include "molt/base/error.h"

namespace molt::peft {

std::vector<nn::Target> resolve_targets(const nn::SiteTable& sites, const std::vector<std::string>& targets,
                                        const std::vector<nn::SiteKind>& kinds) {
  if (targets.empty()) usage_error("target_modules: is empty; name at least one (`molt sites MODEL` prints all)");
  std::vector<nn::Target> found;
  for (const std::string& target : targets) {
    for (const nn::Target& t : nn::match_target(sites, target, kinds)) {
      const bool known = std::any_of(found.begin(), found.end(), [&](const nn::Target& other) {
        return other.site == t.site && other.slice == t.slice;
      });
      if (!known) found.push_back(t);
    }
  }
  std::stable_sort(found.begin(), found.end(), [](const nn::Target& a, const nn::Target& b) {
    return a.site->id != b.site->id ? a.site->id < b.site->id : a.begin() < b.begin();
  });
  for (size_t i = 1; i < found.size(); ++i) {
    if (found[i].site == found[i - 1].site && (!found[i].slice || !found[i - 1].slice))
      usage_error("target_modules: ", found[i].site->path, " is named whole and by slice; name one of them");
  }
  return found;
}

std::string coverage(const nn::SiteTable& sites, const std::vector<nn::Target>& targets) {
  std::set<int> layers, covered, touched;
  for (const nn::Site& site : sites.all()) {
    if (site.layer >= 0) layers.insert(site.layer);
  }
  for (const nn::Target& t : targets) {
    touched.insert(t.site->id);
    if (t.site->layer >= 0) covered.insert(t.site->layer);
  }
  return str(touched.size(), touched.size() == 1 ? " site" : " sites", " in ", covered.size(), " of ", layers.size(),
             " layers");
}

}  // namespace molt::peft

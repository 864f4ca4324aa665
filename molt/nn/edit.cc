#include "molt/nn/edit.h"

#include <algorithm>

#include "molt/base/error.h"

namespace molt::nn {

void Edit::merge(const Site& site, const Tensor&) const {
  usage_error(site.path, ": this method's change cannot be folded into a weight");
}

void EditSet::add(const Site& site, std::shared_ptr<Edit> edit) {
  const auto id = static_cast<size_t>(site.id);
  if (by_site_.size() <= id) by_site_.resize(id + 1);
  by_site_[id].push_back(edit);
  all_.emplace_back(site.id, std::move(edit));
  layers_.push_back(site.layer);
}

const std::vector<std::shared_ptr<Edit>>& EditSet::at(int site) const {
  static const std::vector<std::shared_ptr<Edit>> kNone;
  return static_cast<size_t>(site) < by_site_.size() ? by_site_[static_cast<size_t>(site)] : kNone;
}

bool EditSet::any_in_layer(int layer) const { return std::count(layers_.begin(), layers_.end(), layer) > 0; }

void EditSet::clear() { *this = EditSet(); }

}  // namespace molt::nn

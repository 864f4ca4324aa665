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

// y = C_k … C_1 (W + Σ Δ) M_n … M_1 x: what changes the input first stands rightmost. Changes of the output come last,
// since one of them may add something of the input as it came.
void merge_edits(const EditSet& edits, const SiteTable& sites, const Parameter& p, const Tensor& values) {
  using Stage = Edit::Stage;
  for (const Stage stage : {Stage::kAdd, Stage::kInput, Stage::kOutput}) {
    auto all = edits.all();
    if (stage == Stage::kInput) std::reverse(all.begin(), all.end());
    for (const auto& [id, edit] : all) {
      const Site& site = sites.all()[static_cast<size_t>(id)];
      if (edit->merge_stage() != stage) continue;
      if (site.parameter == &p) edit->merge(site, values);
      if (site.bias == &p) edit->merge_bias(site, values);
    }
  }
}

}  // namespace molt::nn

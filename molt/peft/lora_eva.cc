// EVA (Paischer et al., 2024): A starts as the directions in which a target's inputs vary most on the training data.
#include <algorithm>
#include <cmath>
#include <map>

#include "molt/base/error.h"
#include "molt/io/adapter.h"
#include "molt/peft/activation_pca.h"
#include "molt/peft/lora.h"
#include "molt/peft/lora_adapter.h"

namespace molt::peft {

int64_t Lora::observed_batches() const { return config_.init_lora_weights == "eva" ? config_.eva_batches : 0; }

// Slices of one site have the same input. Twice the rank and some more are kept from batch to batch, as PEFT does.
void Lora::observe(nn::EditSet& edits) {
  if (moved_) place_pairs();
  observers_.clear();
  for (const nn::Target& target : targets_) {
    if (observers_.count(target.site)) continue;
    const int64_t kept = std::max(2 * configured_rank(*target.site), most_rank(*target.site)) + 8;
    observers_[target.site] = std::make_shared<InputObserver>(kept, dtype_);
    edits.add(*target.site, observers_[target.site]);
  }
}

// Where inputs vary in fewer directions than the rank, the other rows of A stay as they were drawn.
void Lora::observed() {
  if (config_.eva_rho > 1) redistribute();
  for (const auto& adapter : adapters_) {
    const Tensor directions = observers_.at(adapter->target().site)->pca().directions(adapter->rank());
    if (directions.defined()) adapter->A().value().row_range(0, directions.rows()).copy_from(directions);
  }
  observers_.clear();
}

int64_t Lora::most_rank(const nn::Site& site) const {
  const int64_t own = configured_rank(site), widest = std::max<int64_t>(site.shape[1], own);
  return std::min<int64_t>(widest, std::llrint(std::min(config_.eva_rho, 1e6) * static_cast<double>(own)));
}

// As PEFT does it: of all directions of all targets those come first that explain most of their target's inputs, until
// as many are taken as there were ranks. Slices of one site have one rank, so that a direction costs as many as there
// are.
void Lora::redistribute() {
  struct Direction {
    double share;
    const nn::Site* site;
  };
  std::vector<Direction> directions;
  std::map<const nn::Site*, int64_t> slices;
  Ranks ranks;
  int64_t budget = 0;
  for (const nn::Target& target : targets_) {
    budget += configured_rank(*target.site);
    if (slices[target.site]++ > 0) continue;
    ranks[target.site] = 0;
    const std::vector<double> shares = observers_.at(target.site)->pca().explained();
    const auto most = static_cast<size_t>(most_rank(*target.site));
    for (size_t i = 0; i < std::min(most, shares.size()); ++i) directions.push_back({shares[i], target.site});
  }
  if (directions.empty()) return;
  std::stable_sort(directions.begin(), directions.end(),
                   [](const Direction& a, const Direction& b) { return a.share > b.share; });
  for (const Direction& d : directions) {
    if (slices[d.site] > budget) continue;
    ++ranks[d.site];
    budget -= slices[d.site];
  }
  place_pairs(ranks);
}

void Lora::adopt_ranks(const std::vector<std::pair<std::string, Tensor>>& tensors) {
  const auto find = [&](const nn::Site& site, const char* suffix) {
    const std::string key = io::peft_key(site.path, suffix);
    return std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.first == key; });
  };
  std::map<const nn::Site*, int64_t> slices;
  for (const nn::Target& target : targets_) ++slices[target.site];
  Ranks ranks;
  bool any = false;
  for (const auto& [site, count] : slices) {
    const auto A = find(*site, "lora_A.weight");
    if (A == tensors.end()) {
      if (find(*site, "lora_B.weight") != tensors.end())
        usage_error("adapter: tensor ", io::peft_key(site->path, "lora_A.weight"), " is missing");
      ranks[site] = 0;
    } else {
      const Shape& shape = A->second.shape();
      if (shape.size() != 2 || shape[0] % count != 0 || shape[0] < count || shape[0] / count > most_rank(*site))
        usage_error("adapter: ", A->first, " is ", shape_str(shape), ", expected a rank from 1 to ", most_rank(*site),
                    count > 1 ? str(" for each of ", count, " slices") : std::string());
      ranks[site] = shape[0] / count;
      any = true;
    }
  }
  Ranks now;
  for (const auto& [site, count] : slices) now[site] = 0;
  for (const auto& adapter : adapters_) now[adapter->target().site] = adapter->rank();
  if (any && ranks != now) place_pairs(ranks);
}

Json Lora::config_json() const {
  Json json = Configured::config_json();
  if (!moved_) return json;
  json["eva_rho"] = 1;
  json["target_modules"] = Json::array();
  json["rank_pattern"] = Json::object();
  json["alpha_pattern"] = Json::object();
  for (const auto& adapter : adapters_) {
    const nn::Site& site = *adapter->target().site;
    const auto rank = static_cast<double>(adapter->rank());
    json["target_modules"].push_back(adapter->target().label());
    json["rank_pattern"][site.path] = adapter->rank();
    json["alpha_pattern"][site.path] = json_number(adapter->scale() * (config_.use_rslora ? std::sqrt(rank) : rank));
  }
  return json;
}

}  // namespace molt::peft

#include "molt/peft/full.h"

#include <map>
#include <set>

#include "molt/base/error.h"
#include "molt/io/adapter.h"

namespace molt::peft {
namespace {

/// A whole tensor in PEFT's form: "base_model.model." + its path.
std::string whole_key(const std::string& path) {
  const size_t dot = path.rfind('.');
  return io::peft_key(path.substr(0, dot), path.substr(dot + 1));
}

}  // namespace

void Full::declare(const nn::SiteTable& sites, nn::ParameterTable& parameters) {
  std::set<const nn::Parameter*> chosen;
  for (const std::string& target : config_.train) {
    using Kind = nn::SiteKind;
    for (const nn::Target& t :
         nn::match_target(sites, target, {Kind::kLinear, Kind::kConv, Kind::kEmbedding, Kind::kParam})) {
      if (t.slice) usage_error("train: '", target, "' is a slice; only whole parts can be trained whole");
      chosen.insert(t.site->parameter);
    }
  }
  for (nn::Parameter& p : parameters) {
    // A part's bias goes with its weight.
    const std::string stem = p.path.substr(0, p.path.rfind('.')) + ".weight";
    bool wanted = config_.train.empty() || chosen.count(&p) > 0;
    for (const nn::Parameter* c : chosen) wanted = wanted || (c->path == stem && p.path != stem);
    if (!wanted) continue;
    p.trained = true;
    parameters_.push_back(&p);
  }
}

std::vector<nn::Trainable> Full::base_trainables() const {
  std::vector<nn::Trainable> trainables;
  for (const nn::Parameter* p : parameters_) trainables.push_back({p->path, p->var, p->decays});
  return trainables;
}

void Full::after_step() {
  for (nn::Parameter* p : parameters_) p->repack();
}

std::vector<std::pair<std::string, Tensor>> Full::state() const {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const nn::Parameter* p : parameters_) tensors.emplace_back(whole_key(p->path), p->var.value());
  return tensors;
}

void Full::load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) {
  const std::map<std::string, Tensor> stored(tensors.begin(), tensors.end());
  for (nn::Parameter* p : parameters_) {
    const auto at = stored.find(whole_key(p->path));
    if (at == stored.end()) usage_error("adapter: tensor ", whole_key(p->path), " is missing");
    if (at->second.shape() != p->shape)
      usage_error("adapter: ", p->path, " is ", shape_str(at->second.shape()), ", the model's is ",
                  shape_str(p->shape));
    Tensor value = p->var.value();
    value.copy_from(at->second);
    p->repack();
  }
}

int64_t Full::trainable_count() const {
  int64_t count = 0;
  for (const nn::Parameter* p : parameters_) count += shape_numel(p->shape);
  return count;
}

std::string Full::coverage() const {
  return str(parameters_.size(), parameters_.size() == 1 ? " tensor" : " tensors", " of the base");
}

}  // namespace molt::peft

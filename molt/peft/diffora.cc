#include "molt/peft/diffora.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "molt/base/error.h"
#include "molt/io/adapter.h"
#include "molt/ops/low_rank.h"
#include "molt/ops/repeat.h"
#include "molt/ops/reshape.h"
#include "molt/ops/scatter_entries.h"
#include "molt/ops/tanh.h"
#include "molt/ops/vector_low_rank.h"
#include "molt/peft/edit_method.h"
#include "molt/peft/foldable.h"
#include "molt/peft/kaiming.h"
#include "molt/peft/sizes.h"

namespace molt::peft {
namespace {

struct Pair {
  Var A, B;  // (R, I), (O, R)
};

Pair new_pair(const nn::Target& target, int64_t r, uint64_t seed, const std::string& name, Dtype dtype) {
  return {Var::leaf(kaiming({r, target.site->shape[1]}, dtype, seed, name)),
          Var::leaf(Tensor::zeros({target.size(), r}, dtype))};
}

/// Warm-up: a pair with a weight in front. sigmoid(2 w) = (1 + tanh(w)) / 2.
class WeightedPair final : public nn::Edit {
 public:
  WeightedPair(const nn::Target& target, int64_t r, double scale, uint64_t seed, Dtype dtype)
      : target_(target),
        scale_(scale),
        pair(new_pair(target, r, seed, target.label() + ".diffora_A", dtype)),
        weight(Var::leaf(Tensor::zeros({1}, dtype))),
        ones_(Tensor::empty({r}, dtype)) {
    ones_.fill(1);
  }
  Var add_to_output(const nn::EditContext&, const Var& x, const Var& y) const override {
    const Var t = ops::reshape(ops::repeat(ops::tanh(weight), ones_.numel()), {ones_.numel()});
    return ops::vector_low_rank(y, x, pair.A, ops::add_param(Var(ones_), t), pair.B, Var(), scale_ / 2,
                                target_.begin());
  }
  std::vector<nn::Trainable> trainables() const override {
    return {{target_.label() + ".diffora_A", pair.A},
            {target_.label() + ".diffora_B", pair.B},
            {target_.label() + ".diffora_weight", weight, false}};
  }

 private:
  nn::Target target_;
  double scale_;

 public:
  Pair pair;
  Var weight;

 private:
  Tensor ones_;
};

/// Afterwards: a pair, this module's own or shared. Of those that share one, only the first calls it a trainable.
class PlainPair final : public nn::Edit, public Foldable {
 public:
  PlainPair(const nn::Target& target, Pair p, double scale, std::string suffix, bool first)
      : target_(target), scale_(scale), suffix_(std::move(suffix)), first_(first), pair(std::move(p)) {}
  Var add_to_output(const nn::EditContext&, const Var& x, const Var& y) const override {
    return ops::low_rank(y, x, pair.A, pair.B, scale_, target_.begin());
  }
  nn::LowRankTerm low_rank_term(const nn::EditContext&) const override {
    return {pair.A, pair.B, scale_, target_.begin()};
  }
  std::vector<nn::LowRankTerm> folded() const override { return {{pair.A, pair.B, scale_, target_.begin()}}; }
  void merge(const nn::Site&, const Tensor& weight) const override { merge_terms(folded(), weight); }
  std::vector<nn::Trainable> trainables() const override {
    if (!first_) return {};
    return {{target_.label() + "." + suffix_ + "_A", pair.A}, {target_.label() + "." + suffix_ + "_B", pair.B}};
  }
  bool first() const { return first_; }
  const std::string& suffix() const { return suffix_; }

 private:
  nn::Target target_;
  double scale_;
  std::string suffix_;
  bool first_;

 public:
  Pair pair;
};

constexpr const char *kOwn = "diffora_own", *kShared = "diffora_shared";

}  // namespace

struct DifforaModule {
  nn::Target target;
  std::shared_ptr<WeightedPair> warm;
  std::shared_ptr<PlainPair> plain;
  bool own = false;

  std::string key(const std::string& suffix) const { return io::peft_key(target.label(), suffix); }
};

Diffora::Diffora(Config config, uint64_t seed, Dtype dtype)
    : Configured(std::move(config)), seed_(seed), dtype_(dtype) {
  check_size("diffora: r", config_.r);
  if (config_.warmup_steps < 1) usage_error("diffora: warmup_steps must be at least 1, is ", config_.warmup_steps);
  if (!(config_.keep >= 0) || (config_.keep >= 1 && config_.keep != std::floor(config_.keep)))
    usage_error("diffora: keep must be a share from 0 to below 1, or a count, is ", config_.keep);
}

Diffora::~Diffora() = default;

void Diffora::attach(const nn::SiteTable& sites) {
  const std::vector<nn::Target> found = resolve_targets(sites, config_.target_modules, {nn::SiteKind::kLinear});
  std::vector<std::pair<std::string, Shape>> names;  // a kind: what a module is called in its layer, and its shape
  for (const nn::Target& t : found) {
    const std::string label = t.label();
    const std::pair<std::string, Shape> name{label.substr(label.rfind('.') + 1), {t.size(), t.site->shape[1]}};
    const auto at = std::find(names.begin(), names.end(), name);
    const auto i = static_cast<size_t>(at - names.begin());
    if (at == names.end()) {
      names.push_back(name);
      kinds_.emplace_back();
    }
    kinds_[i].push_back(std::make_unique<DifforaModule>());
    kinds_[i].back()->target = t;
  }
  coverage_ = peft::coverage(sites, found);
  begin_phase(0);
}

int64_t Diffora::kept_of(const Kind& kind) const {
  const auto size = static_cast<double>(kind.size());
  return static_cast<int64_t>(config_.keep < 1 ? std::round(config_.keep * size) : std::min(config_.keep, size));
}

std::vector<nn::Phase> Diffora::phases() const { return {{"select", config_.warmup_steps}, {"train", 0}}; }

void Diffora::choose(const std::vector<std::vector<bool>>& own) {
  phase_ = 1;
  const double scale = config_.lora_alpha / static_cast<double>(config_.r);
  for (size_t k = 0; k < kinds_.size(); ++k) {
    Pair shared;
    for (size_t m = 0; m < kinds_[k].size(); ++m) {
      DifforaModule& module = *kinds_[k][m];
      module.own = own[k][m];
      module.warm.reset();
      const char* suffix = module.own ? kOwn : kShared;
      const bool first = module.own || !shared.A.defined();
      Pair pair = shared;
      if (first) pair = new_pair(module.target, config_.r, seed_, module.target.label() + "." + suffix, dtype_);
      if (!module.own) shared = pair;
      module.plain = std::make_shared<PlainPair>(module.target, pair, scale, suffix, first);
    }
  }
}

void Diffora::begin_phase(int phase) {
  if (phase == 0) {
    phase_ = 0;
    const double scale = config_.lora_alpha / static_cast<double>(config_.r);
    for (const Kind& kind : kinds_) {
      for (const auto& module : kind) {
        module->plain.reset();
        module->warm = std::make_shared<WeightedPair>(module->target, config_.r, scale, seed_, dtype_);
      }
    }
    return;
  }
  if (phase_ == 1) return;  // the choice was read back
  std::vector<std::vector<bool>> own;
  for (const Kind& kind : kinds_) {
    std::vector<size_t> order(kind.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return kind[a]->warm->weight.value().values()[0] > kind[b]->warm->weight.value().values()[0];
    });
    own.emplace_back(kind.size(), false);
    for (int64_t i = 0; i < kept_of(kind); ++i) own.back()[order[static_cast<size_t>(i)]] = true;
  }
  choose(own);
}

// By turns: the weights are fitted to batches that the pairs have not just been fitted to.
void Diffora::before_step(const nn::StepInfo& info) {
  if (phase_ != 0) return;
  for (const Kind& kind : kinds_) {
    for (const auto& module : kind) {
      if (info.step % 2 == 0) {
        module->warm->weight.clear_grad();
      } else {
        module->warm->pair.A.clear_grad();
        module->warm->pair.B.clear_grad();
      }
    }
  }
}

void Diffora::bind(nn::EditSet& edits) const {
  for (const Kind& kind : kinds_) {
    for (const auto& module : kind) {
      if (phase_ == 0) {
        edits.add(*module->target.site, module->warm);
      } else {
        edits.add(*module->target.site, module->plain);
      }
    }
  }
}

std::vector<std::pair<std::string, Tensor>> Diffora::state() const {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const Kind& kind : kinds_) {
    for (const auto& module : kind) {
      if (phase_ == 0) {
        tensors.emplace_back(module->key("diffora_A"), module->warm->pair.A.value());
        tensors.emplace_back(module->key("diffora_B"), module->warm->pair.B.value());
        tensors.emplace_back(module->key("diffora_weight"), module->warm->weight.value());
      } else if (module->plain->first()) {
        tensors.emplace_back(module->key(module->plain->suffix() + "_A"), module->plain->pair.A.value());
        tensors.emplace_back(module->key(module->plain->suffix() + "_B"), module->plain->pair.B.value());
      }
    }
  }
  return tensors;
}

void Diffora::load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) {
  const auto holds = [&](const std::string& key) {
    return std::any_of(tensors.begin(), tensors.end(), [&](const auto& t) { return t.first == key; });
  };
  const auto read = [&](const Var& var, const std::string& key) {
    Tensor to = var.value();
    to.copy_from(stored_tensor(tensors, key, to.shape()));
  };
  if (holds(kinds_.at(0).at(0)->key("diffora_weight"))) {
    begin_phase(0);
    for (const Kind& kind : kinds_) {
      for (const auto& module : kind) {
        read(module->warm->pair.A, module->key("diffora_A"));
        read(module->warm->pair.B, module->key("diffora_B"));
        read(module->warm->weight, module->key("diffora_weight"));
      }
    }
    return;
  }
  std::vector<std::vector<bool>> own;
  for (const Kind& kind : kinds_) {
    own.emplace_back();
    for (const auto& module : kind)
      own.back().push_back(holds(module->key(str(kOwn, "_A"))) || holds(module->key(str(kOwn, "_B"))));
    const auto kept = std::count(own.back().begin(), own.back().end(), true);
    if (kept != kept_of(kind))
      usage_error("adapter: ", kept, " modules like ", kind[0]->target.label(), " have a pair of their own (",
                  kind[0]->key(str(kOwn, "_A")), "), its config asks for ", kept_of(kind));
  }
  choose(own);
  for (const Kind& kind : kinds_) {
    for (const auto& module : kind) {
      if (!module->plain->first()) continue;
      read(module->plain->pair.A, module->key(module->plain->suffix() + "_A"));
      read(module->plain->pair.B, module->key(module->plain->suffix() + "_B"));
    }
  }
}

int64_t Diffora::trainable_count() const {
  int64_t count = 0;
  for (const Kind& kind : kinds_) {
    const int64_t kept = kept_of(kind), pairs = kept + (kept < static_cast<int64_t>(kind.size()) ? 1 : 0);
    const nn::Target& t = kind[0]->target;
    count += pairs * config_.r * (t.size() + t.site->shape[1]);
  }
  return count;
}

std::vector<std::string> Diffora::kept() const {
  std::vector<std::string> labels;
  for (const Kind& kind : kinds_) {
    for (const auto& module : kind) {
      if (phase_ == 1 && module->own) labels.push_back(module->target.label());
    }
  }
  return labels;
}

}  // namespace molt::peft

#include "molt/peft/prefix.h"

#include "molt/base/error.h"
#include "molt/base/rng.h"
#include "molt/peft/learned.h"
#include "molt/peft/sizes.h"

namespace molt::peft {
namespace {

constexpr const char* kSuffix = "rows";

class LearnedPrefix final : public LearnedEdit {
 public:
  LearnedPrefix(const nn::Target& target, const PrefixConfig& config, uint64_t seed, Dtype dtype)
      : LearnedEdit(target, kSuffix, dtype) {
    const int64_t M = config.num_virtual_tokens, D = target.site->shape[0];
    if (config.prefix_projection) {
      start_network({.rows = M,
                     .width = D,
                     .hidden = config.encoder_hidden_size > 0 ? config.encoder_hidden_size : D,
                     .seed = seed,
                     .name = name_of(kSuffix)});
      return;
    }
    const Rng rng(seed, name_of(kSuffix));
    std::vector<double> values(static_cast<size_t>(M * D));
    for (size_t i = 0; i < values.size(); ++i) values[i] = config.init_std * rng.normal(i);
    start(Tensor::from(values, {M, D}).to(dtype));
  }
  Var rows_before(const nn::EditContext&) const override { return learned(); }
  void merge(const nn::Site& site, const Tensor&) const override {
    usage_error(site.path, ": learned rows before a layer are no weight of a checkpoint; they stay an adapter");
  }

 protected:
  bool decays() const override { return true; }
};

}  // namespace

PrefixTuning::PrefixTuning(PrefixConfig config, uint64_t seed, Dtype dtype)
    : EditMethod(std::move(config), seed, dtype) {
  check_size("prefix_tuning: num_virtual_tokens", config_.num_virtual_tokens);
  check_size("prefix_tuning: encoder_hidden_size", config_.encoder_hidden_size, 0);
  if (!(config_.init_std >= 0)) usage_error("prefix_tuning: init_std must not be negative, is ", config_.init_std);
}

void PrefixTuning::attach(const nn::SiteTable& sites) {
  place(sites, config_.target_modules, {nn::SiteKind::kPrefix},
        [&](const nn::Target& target) { return std::make_shared<LearnedPrefix>(target, config_, seed_, dtype_); });
}

std::vector<std::pair<std::string, Tensor>> PrefixTuning::adapter_state() const { return folded_state(edits_); }

void PrefixTuning::load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) {
  fold_for(edits_, tensors);
  EditMethod::load_state(tensors);
}

}  // namespace molt::peft

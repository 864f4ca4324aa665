#include "molt/peft/initial_state.h"

#include "molt/base/error.h"
#include "molt/ops/repeat.h"
#include "molt/peft/learned.h"
#include "molt/peft/sizes.h"

namespace molt::peft {
namespace {

constexpr const char* kSuffix = "initial_state";

/// A state, the same for every segment.
class LearnedState final : public LearnedEdit {
 public:
  LearnedState(const nn::Target& target, const InitialStateConfig& config, uint64_t seed, Dtype dtype)
      : LearnedEdit(target, kSuffix, dtype) {
    const Shape& shape = target.site->shape;
    if (config.encoder_hidden_size == 0) {
      start(Tensor::zeros(shape, dtype));
      return;
    }
    // A row per state (h0) or per step of the left context (conv0), a number per channel in each.
    by_columns_ = target.site->path.rfind("conv0") == std::string::npos;
    start_network({.rows = shape[by_columns_ ? 1 : 0],
                   .width = shape[by_columns_ ? 0 : 1],
                   .hidden = config.encoder_hidden_size,
                   .zero = true,
                   .seed = seed,
                   .name = name_of(kSuffix)});
  }
  Var initial_state(const nn::EditContext&, int64_t segments) const override {
    return ops::repeat(learned(), segments);
  }
  void merge(const nn::Site& site, const Tensor&) const override {
    usage_error(site.path, ": a learned initial state is no weight of a checkpoint; it stays an adapter");
  }

 protected:
  bool decays() const override { return false; }
};

}  // namespace

InitialState::InitialState(InitialStateConfig config, uint64_t seed, Dtype dtype)
    : EditMethod(std::move(config), seed, dtype) {
  check_size("initial_state: encoder_hidden_size", config_.encoder_hidden_size, 0);
}

void InitialState::attach(const nn::SiteTable& sites) {
  place(sites, config_.target_modules, {nn::SiteKind::kState},
        [&](const nn::Target& target) { return std::make_shared<LearnedState>(target, config_, seed_, dtype_); });
}

std::vector<std::pair<std::string, Tensor>> InitialState::adapter_state() const { return folded_state(edits_); }

void InitialState::load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) {
  fold_for(edits_, tensors);
  EditMethod::load_state(tensors);
}

}  // namespace molt::peft

// AdaLoRA (Zhang et al., 2023): low-rank changes in the form of a singular value decomposition, whose least important
// directions are switched off while training goes on, until a budget over all targets is met.
#pragma once

#include "molt/peft/edit_method.h"

namespace molt::peft {

struct AdaLoraConfig {
  static constexpr const char* kName = "adalora";
  static constexpr const char* kSummary = "low-rank updates that share a budget of ranks (Zhang et al., 2023)";
  int64_t target_r = 8;
  int64_t init_r = 12;
  int64_t tinit = 0;
  int64_t tfinal = 0;
  int64_t deltaT = 1;
  double beta1 = 0.85;
  double beta2 = 0.85;
  double orth_reg_weight = 0.5;
  double lora_alpha = 8;
  std::vector<std::string> target_modules = {"in_proj", "x_proj", "out_proj"};

  template <class V>
  void visit(V& v) {
    v.field("target_r", target_r, "average rank that is left in the end");
    v.field("init_r", init_r, "rank of each target at the start");
    v.field("tinit", tinit, "steps before the first direction is switched off");
    v.field("tfinal", tfinal, "steps at the end in which the choice stays");
    v.field("deltaT", deltaT, "steps from one choice to the next");
    v.field("beta1", beta1, "smoothing of the importance of entries, in (0, 1)");
    v.field("beta2", beta2, "smoothing of its uncertainty, in (0, 1)");
    v.field("orth_reg_weight", orth_reg_weight, "weight of the penalty that keeps directions orthogonal");
    v.field("lora_alpha", lora_alpha, "scale is lora_alpha / (init_r + 1e-5)");
    v.field("target_modules", target_modules, "linears, or slices of them");
  }
};

class TripletEdit;

/// y += s B (e ∘ (A x)), A (R, I), B (O, R) drawn from N(0, 0.02²), e (R) = 0 at the start. Each step adds the gradient
/// of w / n Σ (‖A Aᵀ − I‖ + ‖Bᵀ B − I‖) over the n matrices, and rates every direction by e's importance plus the mean
/// ones of its row of A and column of B, an entry's importance being the product of smoothed |p · ∂p| and of its
/// smoothed deviation. The budget falls from init_r to target_r per target as a cube. As PEFT does it, but with
/// gradients before clipping. Count: R (I + O + 1) per target.
class AdaLora final : public EditMethod<AdaLoraConfig> {
 public:
  AdaLora(Config config, uint64_t seed, Dtype dtype);
  void attach(const nn::SiteTable& sites) override;
  void check_steps(int64_t steps) const override;
  void before_step(const nn::StepInfo& info) override;
  void after_step() override;
  std::vector<std::pair<std::string, Tensor>> state() const override;
  std::vector<std::pair<std::string, Tensor>> adapter_state() const override { return EditMethod::state(); }
  void load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) override;
  static constexpr const char* kPeftType = "ADALORA";
  static std::vector<MethodOptions> from_peft(const Json& config, const std::string& where);
  Json peft_config() const override;

  /// Directions left on, over all targets.
  int64_t active() const;

 private:
  void allocate(int64_t budget);
  std::vector<std::shared_ptr<TripletEdit>> triplets_;
  bool stepping_ = false;
  nn::StepInfo info_;
};

}  // namespace molt::peft

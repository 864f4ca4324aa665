// S-LoRA (Wu et al., 2025, "S-LoRA: Scalable Low-Rank Adaptation for Class Incremental Learning", later SD-LoRA): task
// after task, what earlier adapters learnt stays as directions, of which only the magnitudes train on, beside a new
// pair. A new run goes on `from` earlier adapters; what it writes holds all of it.
#pragma once

#include <optional>

#include "molt/peft/edit_method.h"
#include "molt/peft/slora_earlier.h"

namespace molt::peft {

struct SloraConfig {
  static constexpr const char* kName = "slora";
  static constexpr const char* kSummary = "a new pair beside earlier tasks' directions, frozen (Wu et al., 2025)";
  std::vector<std::string> from = {};
  int64_t r = 8;
  double lora_alpha = 8;
  double lora_dropout = 0;
  std::optional<double> magnitude = {};
  std::vector<std::string> target_modules = {"in_proj", "x_proj", "out_proj"};

  template <class V>
  void visit(V& v) {
    v.field("from", from, "adapters of earlier tasks (LoRA's, or S-LoRA's, which hold those before them)");
    v.field("r", r, "rank of the new pair");
    v.field("lora_alpha", lora_alpha, "scale of the new pair is lora_alpha / r");
    v.field("lora_dropout", lora_dropout, "dropout on the input of the new A, 0 to 1");
    v.field("magnitude", magnitude,
            "length of every earlier direction at the start, 0.8 in the authors' code (default: the length it had)");
    v.field("target_modules", target_modules, "linears, or slices of them: those of the earlier adapters");
  }
};

class SloraEdit;

/// y += Σ_i α_i (B_i A_i / ‖B_i A_i‖) x + s B A x. A, B and every α_i (one per target) train. Count: R (I + O) + n per
/// target with n earlier directions. Without earlier adapters it is LoRA.
class Slora final : public EditMethod<SloraConfig> {
 public:
  /// `earlier`: adapters in memory, before those that the config names.
  Slora(Config config, uint64_t seed, Dtype dtype, std::vector<EarlierAdapter> earlier = {});
  void attach(const nn::SiteTable& sites) override;
  void load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) override;
  /// Without `from`: the directions are among the tensors.
  Json config_json() const override;

 private:
  std::vector<EarlierAdapter> earlier_;
  std::vector<std::shared_ptr<SloraEdit>> own_;
};

}  // namespace molt::peft

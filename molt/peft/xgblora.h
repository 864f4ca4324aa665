// XGBLoRA (Zhang et al., 2024, "Less is More: Extreme Gradient Boost Rank-1 Adaption"): a sum of pairs of rank 1 that
// are fitted one after the other, each on a random subset of the layers, on top of all before it. What the paper merges
// into the base after each round stays beside it here, in full precision: a bf16 base would round small pairs away.
#pragma once

#include <string>
#include <vector>

#include "molt/peft/configured.h"

namespace molt::peft {

struct XgbLoraConfig {
  static constexpr const char* kName = "xgblora";
  static constexpr const char* kSummary =
      "rank-1 pairs fitted one after the other on random layers (Zhang et al., 2024)";
  int64_t rounds = 8;
  int64_t r = 1;
  double lora_alpha = 1;
  double lora_dropout = 0;
  double layers = 0.5;
  std::vector<std::string> round_layers = {};
  std::vector<std::string> target_modules = {"in_proj", "x_proj", "out_proj"};

  template <class V>
  void visit(V& v) {
    v.field("rounds", rounds, "pairs fitted one after the other; each round has its share of the training's steps");
    v.field("r", r, "rank of each pair");
    v.field("lora_alpha", lora_alpha, "scale is lora_alpha / r");
    v.field("lora_dropout", lora_dropout, "dropout on the input of the pair that is being fitted, 0 to 1");
    v.field("layers", layers,
            "how many layers a round trains, drawn anew for each: a share below 1, or a count; 0: all");
    v.field("round_layers", round_layers, "the layers of each round, such as [\"0 2\", \"1 3\"] (default: drawn)");
    v.field("target_modules", target_modules, "linears, or slices of them");
  }
};

class BoostedPairs;

/// y += s Σ_k B_k A_k x over the rounds k in which the target's layer was drawn. A_k starts as LoRA's, B_k at zero. In
/// round k only that pair trains; those before it are constants, those behind it are not computed. Count: r (I + O) per
/// target and round that drew it.
class XgbLora final : public Configured<XgbLoraConfig> {
 public:
  /// `seed` keys initial values and the choice of layers.
  XgbLora(Config config, uint64_t seed, Dtype dtype);
  ~XgbLora() override;

  void attach(const nn::SiteTable& sites) override;
  void bind(nn::EditSet& edits) const override;
  void begin_phase(int phase) override;
  void check_steps(int64_t steps) const override;
  void after_step() override;
  std::vector<std::pair<std::string, Tensor>> state() const override;
  void load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) override;
  /// With the layers that were drawn, so that an adapter does not depend on how they are.
  Json config_json() const override;
  /// A plain LoRA whose ranks differ by layer.
  Json peft_config() const override;
  int64_t trainable_count() const override;
  std::string coverage() const override { return coverage_; }

  /// Which round the step of a phase belongs to: each has the same share of the steps.
  static int64_t round_of(int64_t step, int64_t steps, int64_t rounds);

 private:
  uint64_t seed_;
  Dtype dtype_;
  std::string coverage_;
  std::vector<std::vector<int>> drawn_;  // layers of each round
  std::vector<std::shared_ptr<BoostedPairs>> boosted_;
};

}  // namespace molt::peft

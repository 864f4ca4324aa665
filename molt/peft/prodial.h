// ProDiaL (Ham et al., 2024): the projections of a Mamba are changed by a matrix near the identity on their inputs and
// factors on their outputs, beside a low-rank part.
#pragma once

#include "molt/peft/edit_method.h"

namespace molt::peft {

struct ProdialConfig {
  static constexpr const char* kName = "prodial";
  static constexpr const char* kSummary = "block-diagonal transforms of projections beside LoRA (Ham et al., 2024)";
  int64_t r = 8;
  double lora_alpha = 8;
  int64_t block_size = 12;
  std::vector<std::string> target_modules = {"in_proj", "out_proj"};

  template <class V>
  void visit(V& v) {
    v.field("r", r, "rank of the low-rank part");
    v.field("lora_alpha", lora_alpha, "its scale is lora_alpha / r");
    v.field("block_size", block_size, "width of a block of the transform (the nearest that divides the inputs)");
    v.field("target_modules", target_modules, "linears");
  }
};

/// y = s ∘ (W D x) + b + (alpha / r) B A x with D = 1 + R block-diagonal; R = 0, s = 1, B = 0 at the start. Count per
/// target: I · K + O + r (I + O), K the width of a block.
class Prodial final : public EditMethod<ProdialConfig> {
 public:
  Prodial(Config config, uint64_t seed, Dtype dtype);
  void attach(const nn::SiteTable& sites) override;
};

}  // namespace molt::peft

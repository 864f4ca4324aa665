// MiSS (Kang and Yin, 2024; once "Bone"): one small matrix per target, shared by all groups of R inputs.
#pragma once

#include "molt/peft/edit_method.h"

namespace molt::peft {

struct MissConfig {
  static constexpr const char* kName = "miss";
  static constexpr const char* kSummary = "one matrix shared by groups of inputs (Kang and Yin, 2024)";
  int64_t r = 64;
  std::vector<std::string> target_modules = {"in_proj", "x_proj", "out_proj"};

  template <class V>
  void visit(V& v) {
    v.field("r", r, "inputs per group");
    v.field("target_modules", target_modules, "linears, or slices of them");
  }
};

/// y += Dᵀ Σ_g x[g R : (g + 1) R], D (R, O), which starts at 0. Count: R · O per target.
class Miss final : public EditMethod<MissConfig> {
 public:
  Miss(Config config, uint64_t seed, Dtype dtype);
  void attach(const nn::SiteTable& sites) override;
  static constexpr const char* kPeftType = "MISS";
  static std::vector<MethodOptions> from_peft(const Json& config, const std::string& where);
  Json peft_config() const override;
};

}  // namespace molt::peft

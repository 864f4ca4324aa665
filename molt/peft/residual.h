// Learnable A and D in residual form (Yoshimura et al., 2025): a bare parameter p is computed with as p + Δ, and Δ,
// starting at zero, trains under weight decay: it decays towards the pretrained value, not towards zero.
#pragma once

#include <string>
#include <vector>

#include "molt/peft/edit_method.h"

namespace molt::peft {

struct ResidualConfig {
  static constexpr const char* kName = "residual";
  static constexpr const char* kSummary = "changes of A_log, D, norms, convolutions that decay to the pretrained value";
  std::vector<std::string> target_modules = {"A_log", "D"};

  template <class V>
  void visit(V& v) {
    v.field("target_modules", target_modules, "bare parameters: A_log, D, conv1d, norm.weight");
  }
};

class Residual final : public EditMethod<ResidualConfig> {
 public:
  Residual(ResidualConfig config, Dtype dtype) : EditMethod(std::move(config), 0, dtype) {}
  void attach(const nn::SiteTable& sites) override;
};

}  // namespace molt::peft

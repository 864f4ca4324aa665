// IA3 (Liu et al., 2022): factors on the outputs of linears, or on the inputs of those that close a feed-forward block.
#pragma once

#include "molt/peft/edit_method.h"

namespace molt::peft {

struct Ia3Config {
  static constexpr const char* kName = "ia3";
  static constexpr const char* kSummary = "factors on the outputs or inputs of linears (Liu et al., 2022)";
  std::vector<std::string> target_modules = {"in_proj", "x_proj", "out_proj"};
  std::vector<std::string> feedforward_modules = {};

  template <class V>
  void visit(V& v) {
    v.field("target_modules", target_modules, "linears, or slices of them");
    v.field("feedforward_modules", feedforward_modules, "those of them whose input is scaled instead of the output");
  }
};

/// y = l ∘ (W x + b), or y = W (l ∘ x) + b for feedforward_modules; l starts at 1. Count: O, or I, per target.
class Ia3 final : public EditMethod<Ia3Config> {
 public:
  Ia3(Config config, uint64_t seed, Dtype dtype) : EditMethod(std::move(config), seed, dtype) {}
  void attach(const nn::SiteTable& sites) override;
  static constexpr const char* kPeftType = "IA3";
  static std::vector<MethodOptions> from_peft(const Json& config, const std::string& where);
  Json peft_config() const override;
};

}  // namespace molt::peft

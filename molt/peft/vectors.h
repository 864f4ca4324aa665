// Methods that train vectors the base has already: BitFit (biases) and LN tuning (norms). The base stays as it is; the
// edit computes with values of its own.
#pragma once

#include "molt/peft/edit_method.h"

namespace molt::peft {

struct BitFitConfig {
  static constexpr const char* kName = "bitfit";
  static constexpr const char* kSummary = "biases of linears and convolutions (Ben Zaken et al., 2022)";
  std::vector<std::string> target_modules = {"conv1d", "dt_proj"};

  template <class V>
  void visit(V& v) {
    v.field("target_modules", target_modules, "parts whose bias trains; one without a bias gets one of zeros");
  }
};

/// b trains, W does not. Count: the outputs of each target.
class BitFit final : public EditMethod<BitFitConfig> {
 public:
  BitFit(Config config, uint64_t seed, Dtype dtype) : EditMethod(std::move(config), seed, dtype) {}
  void attach(const nn::SiteTable& sites) override;
};

struct LnTuningConfig {
  static constexpr const char* kName = "ln_tuning";
  static constexpr const char* kSummary = "weights of the norms (Zhao et al., 2023)";
  std::vector<std::string> target_modules = {"norm.weight", "norm_f.weight"};

  template <class V>
  void visit(V& v) {
    v.field("target_modules", target_modules, "norms, by their weight");
  }
};

/// y = w ∘ x / rms(x) with w training. Count: the width of each norm.
class LnTuning final : public EditMethod<LnTuningConfig> {
 public:
  LnTuning(Config config, uint64_t seed, Dtype dtype) : EditMethod(std::move(config), seed, dtype) {}
  void attach(const nn::SiteTable& sites) override;
  static constexpr const char* kPeftType = "LN_TUNING";
  static std::vector<MethodOptions> from_peft(const Json& config, const std::string& where);
  Json peft_config() const override;
};

}  // namespace molt::peft

// VeRA (Kopiczko et al., 2024): one random pair of matrices for all layers, of which each target trains two vectors.
#pragma once

#include "molt/peft/edit_method.h"

namespace molt::peft {

struct VeraConfig {
  static constexpr const char* kName = "vera";
  static constexpr const char* kSummary = "two vectors per target around one random pair (Kopiczko et al., 2024)";
  int64_t r = 256;
  double d_initial = 0.1;
  int64_t projection_prng_key = 0;
  std::vector<std::string> target_modules = {"in_proj", "x_proj", "out_proj"};

  template <class V>
  void visit(V& v) {
    v.field("r", r, "rank of the random pair");
    v.field("d_initial", d_initial, "initial value of lambda_d");
    v.field("projection_prng_key", projection_prng_key, "key of the random pair");
    v.field("target_modules", target_modules, "linears, or slices of them");
  }
};

/// y += λ_b ∘ (B (λ_d ∘ (A x))): A (R, largest I), B (largest O, R) frozen, uniform in ±√(6/I) and ±√(6/R), of which
/// each target takes its first columns and rows; λ_d (R) starts at d_initial, λ_b (O) at 0. Count: R + O per target.
class Vera final : public EditMethod<VeraConfig> {
 public:
  Vera(Config config, uint64_t seed, Dtype dtype);
  void attach(const nn::SiteTable& sites) override;
  std::vector<std::pair<std::string, Tensor>> state() const override;
  void load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) override;
  static constexpr const char* kPeftType = "VERA";
  static std::vector<MethodOptions> from_peft(const Json& config, const std::string& where);
  Json peft_config() const override;

 private:
  Tensor A_, B_;
};

}  // namespace molt::peft

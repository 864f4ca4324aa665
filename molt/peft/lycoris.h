// Changes of a weight that are products of products: LoHa (Hadamard) and LoKr (Kronecker), as LyCORIS and PEFT have
// them (Hyeon-Woo et al., "FedPara", 2022; Yeh et al., 2024).
#pragma once

#include "molt/peft/edit_method.h"

namespace molt::peft {

struct LohaConfig {
  static constexpr const char* kName = "loha";
  static constexpr const char* kSummary = "Hadamard products of low-rank pairs (Hyeon-Woo et al., 2022)";
  int64_t r = 8;
  double alpha = 8;
  std::vector<std::string> target_modules = {"in_proj", "x_proj", "out_proj"};

  template <class V>
  void visit(V& v) {
    v.field("r", r, "rank of each of the two pairs; the change has rank r² at most, and costs as LoRA of rank r²");
    v.field("alpha", alpha, "scale is alpha / r");
    v.field("target_modules", target_modules, "linears, or slices of them");
  }
};

/// W + s (A₁ B₁) ∘ (A₂ B₂) with A (O, R), B (R, I), s = alpha / R; B₂ starts at 0. Never formed: it is the product of
/// the (O, R²) pairs of A's columns with the (R², I) pairs of B's rows. Count: 2 R (O + I) per target.
class Loha final : public EditMethod<LohaConfig> {
 public:
  Loha(Config config, uint64_t seed, Dtype dtype);
  void attach(const nn::SiteTable& sites) override;
  static constexpr const char* kPeftType = "LOHA";
  static std::vector<MethodOptions> from_peft(const Json& config, const std::string& where);
  Json peft_config() const override;
};

struct LokrConfig {
  static constexpr const char* kName = "lokr";
  static constexpr const char* kSummary = "Kronecker products, the larger factor of low rank (Yeh et al., 2024)";
  int64_t r = 8;
  double alpha = 8;
  bool decompose_both = false;
  int64_t decompose_factor = -1;
  std::vector<std::string> target_modules = {"in_proj", "x_proj", "out_proj"};

  template <class V>
  void visit(V& v) {
    v.field("r", r, "rank of the larger factor (it is whole where r reaches half of its size)");
    v.field("alpha", alpha, "scale is alpha / r");
    v.field("decompose_both", decompose_both, "the smaller factor is of low rank too");
    v.field("decompose_factor", decompose_factor, "size of the smaller factor; -1: near the square root");
    v.field("target_modules", target_modules, "linears, or slices of them");
  }
};

/// W + s W₁ ⊗ W₂, O = o₁ o₂, I = i₁ i₂, W₁ (o₁, i₁), W₂ (o₂, i₂) = W₂ₐ W₂ᵦ where r < max(o₂, i₂) / 2; W₁ starts at 0.
/// Count per target: o₁ i₁ + r (o₂ + i₂), or o₂ i₂ for a whole W₂.
class Lokr final : public EditMethod<LokrConfig> {
 public:
  Lokr(Config config, uint64_t seed, Dtype dtype);
  void attach(const nn::SiteTable& sites) override;
  static constexpr const char* kPeftType = "LOKR";
  static std::vector<MethodOptions> from_peft(const Json& config, const std::string& where);
  Json peft_config() const override;
};

/// Two factors of n, the first the smaller one, as PEFT chooses them.
std::pair<int64_t, int64_t> two_factors(int64_t n, int64_t factor);

}  // namespace molt::peft

// LoRA (Hu et al., 2021): W x becomes W x + s · B A x with A (R, in) and B (out, R), s = alpha / R, or alpha / sqrt(R)
// (rsLoRA; Kalajdzievski, 2023). On any linear or a named slice of one, on embeddings, and on matrices that are not
// multiplied by: convolutions (E, K) and A_log (E, N), diagonals stacked to a matrix. With DoRA's magnitudes, LoRA+'s
// rates, initial values taken from the base (PiSSA, OLoRA), from what rounding took from it (LoftQ) or from the data
// (EVA), and factors that train by turns (RoLoRA).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "molt/peft/configured.h"

namespace molt::peft {

struct LoraConfig {
  static constexpr const char* kName = "lora";
  static constexpr const char* kSummary = "low-rank updates of linears and slices of them (Hu et al., 2021)";
  int64_t r = 8;
  double lora_alpha = 8;
  double lora_dropout = 0;
  bool use_rslora = false;
  bool use_dora = false;
  std::string init_lora_weights = "true";
  int64_t eva_batches = 4;
  double eva_rho = 1;
  double loraplus_lr_ratio = 1;
  int64_t alternate = 0;
  std::vector<std::string> target_modules = {"in_proj", "x_proj", "out_proj"};
  std::map<std::string, int64_t> rank_pattern = {};  ///< regex on a site's path -> rank
  std::map<std::string, double> alpha_pattern = {};  ///< regex on a site's path -> alpha

  template <class V>
  void visit(V& v) {
    v.field("r", r, "rank");
    v.field("lora_alpha", lora_alpha, "scale is lora_alpha / r");
    v.field("lora_dropout", lora_dropout, "dropout on the input of A, 0 to 1");
    v.field("use_rslora", use_rslora, "scale is lora_alpha / sqrt(r) instead");
    v.field("use_dora", use_dora, "rows get lengths that train of their own (DoRA; linears only)");
    v.field(
        "init_lora_weights", init_lora_weights,
        "initial values: true | gaussian | pissa | pissa_niter_N | olora (from the base's weights) | loftq (from what "
        "base_dtype rounds away of them) | eva (from the data)");
    v.field("eva_batches", eva_batches, "eva: how many batches it looks at before training");
    v.field("eva_rho", eva_rho,
            "eva: ranks move to targets whose inputs need them, up to so many times a target's own; 1: they stay "
            "(PEFT: 2)");
    v.field("loraplus_lr_ratio", loraplus_lr_ratio, "learning rate of B over that of A (LoRA+ advises 16)");
    v.field("alternate", alternate,
            "B trains for so many steps while A rests, then A while B rests, and so on (RoLoRA); 0: both train");
    v.field("target_modules", target_modules,
            "sites: in_proj, x_proj:B, conv1d, embeddings, A_log, a regular expression, a preset such as ssm");
    v.field("rank_pattern", rank_pattern, "rank for sites whose path ends in, or matches, the key");
    v.field("alpha_pattern", alpha_pattern, "lora_alpha for sites whose path ends in, or matches, the key");
  }
};

class InputObserver;
class LoraAdapter;
class DoraMagnitude;

class Lora final : public Configured<LoraConfig> {
 public:
  /// `seed` keys A's initial values; `dtype` is the trainables' (f32, or f64 in checks).
  Lora(LoraConfig config, uint64_t seed, Dtype dtype);
  ~Lora() override;

  static constexpr const char* kPeftType = "LORA";
  /// PEFT's config as recipe entries. Throws UsageError for what would change the meaning if it were ignored.
  static std::vector<MethodOptions> from_peft(const Json& config, const std::string& where);
  void declare(const nn::SiteTable& sites, nn::ParameterTable& parameters) override;
  void attach(const nn::SiteTable& sites) override;
  void require_effect() const override;
  void bind(nn::EditSet& edits) const override;
  int64_t observed_batches() const override;
  void observe(nn::EditSet& edits) override;
  void observed() override;
  void begin_phase(int phase) override;
  void after_step() override;
  std::vector<std::pair<std::string, Tensor>> state() const override;
  void load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) override;
  int64_t trainable_count() const override;
  /// With the ranks that eva moved, so that an adapter does not depend on the data.
  Json config_json() const override;
  Json peft_config() const override;
  std::string coverage() const override { return coverage_; }

 private:
  using Ranks = std::map<const nn::Site*, int64_t>;
  std::vector<nn::Target> find_targets(const nn::SiteTable& sites) const;
  /// Makes the pairs, with the config's ranks or with these; a site of rank 0 has none.
  void place_pairs(const Ranks& ranks = {});
  int64_t configured_rank(const nn::Site& site) const;
  double configured_alpha(const nn::Site& site) const;
  /// The most that a site's rank may become.
  int64_t most_rank(const nn::Site& site) const;
  /// Ranks by how much of its inputs' variance each further direction of a target explains.
  void redistribute();
  /// Ranks as stored tensors have them.
  void adopt_ranks(const std::vector<std::pair<std::string, Tensor>>& tensors);

  uint64_t seed_;
  Dtype dtype_;
  std::string coverage_;
  std::vector<nn::Target> targets_;
  bool moved_ = false;  // ranks are not the config's
  std::vector<std::shared_ptr<LoraAdapter>> adapters_;
  std::vector<std::shared_ptr<DoraMagnitude>> magnitudes_;               // beside adapters_, or none
  std::map<const nn::Site*, std::shared_ptr<InputObserver>> observers_;  // while eva looks at batches
};

}  // namespace molt::peft

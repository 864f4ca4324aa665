// DiffoRA (Jiang et al., 2025): which modules deserve a low-rank pair of their own is learned. In a warm-up each has
// one with a weight in front; then the modules of largest weight keep a pair, and the others of their kind share one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "molt/peft/configured.h"

namespace molt::peft {

struct DifforaConfig {
  static constexpr const char* kName = "diffora";
  static constexpr const char* kSummary = "LoRA where a learned choice of modules puts it (Jiang et al., 2025)";
  int64_t r = 8;
  double lora_alpha = 8;
  double keep = 0.5;
  int64_t warmup_steps = 100;
  std::vector<std::string> target_modules = {"in_proj", "x_proj", "out_proj"};

  template <class V>
  void visit(V& v) {
    v.field("r", r, "rank");
    v.field("lora_alpha", lora_alpha, "scale is lora_alpha / r");
    v.field("keep", keep, "modules of each kind with a pair of their own: a share below 1, or a count");
    v.field("warmup_steps", warmup_steps, "steps in which the weights of the modules are learned");
    v.field("target_modules", target_modules, "linears, or slices of them; alike in all layers is one kind");
  }
};

struct DifforaModule;

/// Phase "select": y += (alpha / r) a B A x with a = sigmoid(2 w), w = 0 at first; pairs and weights train by turns.
/// Phase "train": new pairs, y += (alpha / r) B A x, one for each of the kept modules and one for the rest of each
/// kind. Count of the latter: r (I + O) for each pair.
class Diffora final : public Configured<DifforaConfig> {
 public:
  Diffora(Config config, uint64_t seed, Dtype dtype);
  ~Diffora() override;
  void attach(const nn::SiteTable& sites) override;
  void bind(nn::EditSet& edits) const override;
  std::vector<nn::Phase> phases() const override;
  void begin_phase(int phase) override;
  void before_step(const nn::StepInfo& info) override;
  std::vector<std::pair<std::string, Tensor>> state() const override;
  void load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) override;
  int64_t trainable_count() const override;
  std::string coverage() const override { return coverage_; }
  /// Labels of the modules that have a pair of their own; empty before they are chosen.
  std::vector<std::string> kept() const;

 private:
  using Kind = std::vector<std::unique_ptr<DifforaModule>>;
  int64_t kept_of(const Kind& kind) const;
  void choose(const std::vector<std::vector<bool>>& own);

  uint64_t seed_;
  Dtype dtype_;
  std::string coverage_;
  int phase_ = 0;
  std::vector<Kind> kinds_;
};

}  // namespace molt::peft

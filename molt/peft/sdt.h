// SDT, sparse dimension tuning (Galim et al., "Parameter-Efficient Fine-Tuning
// of State Space Models", 2024-2025): a warm-up finds the channels, and in them
// the states, whose transition changes most; everything is reverted; then only
// those entries of A_log and those channels' columns of x_proj's B and C train.
// Usually beside LoRA on out_proj. SDT-P prunes channels and states besides;
// SDT+ trains the chosen channels' columns and rows of the projections too.
// (The paper writes D for channels and H for states; here E and N.)
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "molt/peft/configured.h"

namespace molt::peft {

struct SdtConfig {
  static constexpr const char* kName = "sdt";
  static constexpr const char* kSummary = "sparse dimension tuning of the state-space part (Galim et al., 2025)";
  double freeze_channels = 0.99;
  double freeze_states = 0.75;
  int64_t warmup_steps = 500;
  std::string warmup = "a_log";
  std::string criterion = "a_log";
  double prune_channels = 0;
  double prune_states = 0;
  std::vector<std::string> projections = {};

  template <class V>
  void visit(V& v) {
    v.field("freeze_channels", freeze_channels, "channels that stay frozen: a share below 1, or a count");
    v.field("freeze_states", freeze_states,
            "states that stay frozen in a trained channel: a share below 1, or "
            "a count");
    v.field("warmup_steps", warmup_steps, "optimizer steps of the warm-up that selects");
    v.field("warmup", warmup,
            "what trains in the warm-up: a_log (the paper's code) or ssm (the "
            "paper: every SSM parameter)");
    v.field("criterion", criterion,
            "what ranks: a_log (the code: squared change of A_log) or a_bar "
            "(the paper: change of the norm of exp(dt A))");
    v.field("prune_channels", prune_channels, "SDT-P: channels that are cut off: a share below 1, or a count");
    v.field("prune_states", prune_states,
            "SDT-P: states of a trained channel that are cut off: a share "
            "below 1, or a count");
    v.field("projections", projections,
            "SDT+: train what belongs to chosen channels of out_proj "
            "(columns), in_proj:x, in_proj:z (rows) too");
  }
};

/// What one layer may change: A_log, and the columns of x_proj that make B and
/// C.
struct SdtLayer;

class Sdt final : public Configured<SdtConfig> {
 public:
  Sdt(SdtConfig config, Dtype dtype);
  ~Sdt() override;

  void attach(const nn::SiteTable& sites) override;
  void bind(nn::EditSet& edits) const override;
  std::vector<nn::Phase> phases() const override;
  void begin_phase(int phase) override;
  std::vector<std::pair<std::string, Tensor>> state() const override;
  void load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) override;
  int64_t trainable_count() const override;
  std::string coverage() const override { return coverage_; }

  /// Channels (per layer, ascending) chosen by the selection; empty before it.
  std::vector<IndexSet> channels() const;

 private:
  Dtype dtype_;
  int phase_ = 0;
  std::string coverage_;
  std::vector<std::unique_ptr<SdtLayer>> layers_;
};

}  // namespace molt::peft

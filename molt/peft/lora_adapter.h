// The edits behind peft/lora.h: one pair (A, B) at one target, and the magnitudes that DoRA puts on top of it.
#pragma once

#include <memory>
#include <string>

#include "molt/nn/edit.h"
#include "molt/peft/foldable.h"

namespace molt::peft {

struct PairOptions {
  int64_t rank = 8;
  double scale = 1;
  double dropout = 0;
  double b_lr_scale = 1;      ///< LoRA+: B's learning rate over A's
  int64_t alternate = 0;      ///< RoLoRA: steps of a round; 0: both factors train in every step
  std::string init = "true";  ///< as LoraConfig::init_lora_weights
  std::string suffix = "";    ///< behind the target's name, where several pairs stand at one target
  uint64_t seed = 0;
  Dtype dtype = Dtype::kF32;
};

/// The pair of one target. Linear (or a slice of one): y += s · B A x, with A (R, I), B (O, R). Convolution (E, K) and
/// parameters (E, N): the value + s · B A. Embedding: y += s · B A[:, id], with A (R, V), B (D, R).
class LoraAdapter final : public nn::Edit, public Foldable {
 public:
  /// Throws UsageError for a site that is no matrix.
  LoraAdapter(const nn::Target& target, const PairOptions& options);

  /// The initial values; the model starts unchanged.
  void reset();

  Var add_to_output(const nn::EditContext& e, const Var& x, const Var& y) const override;
  Var add_to_rows(const nn::EditContext& e, const std::vector<int32_t>& ids, const Var& y) const override;
  Var change_param(const nn::EditContext& e, const Var& p) const override;
  nn::LowRankTerm low_rank_term(const nn::EditContext& e) const override;
  Var low_rank_input(const nn::EditContext& e, const Var& x) const override;
  void merge(const nn::Site&, const Tensor& weight) const override;
  /// With an origin two: the pair, and what is taken away.
  std::vector<nn::LowRankTerm> folded() const override;
  std::vector<nn::Trainable> trainables() const override;

  const nn::Target& target() const { return target_; }
  const Var& A() const { return A_; }
  const Var& B() const { return B_; }
  /// The pair that was taken from the base (pissa, olora) or from what it lost to rounding (loftq): what was learnt is
  /// s (B A − B0 A0), on the base as the checkpoint has it. Undefined otherwise.
  bool has_origin() const { return A0_.defined(); }
  /// Whether the origin's product is to be taken away on the base as it is kept here. It is not where the base lacks
  /// just that: where adding it leads closer to the checkpoint's weight.
  bool origin_subtracts() const { return has_origin() && !makes_up_; }
  const Tensor& A0() const { return A0_; }
  const Tensor& B0() const { return B0_; }
  /// After A0 and B0 were written into.
  void origin_changed();
  bool embedding() const { return target_.site->kind == nn::SiteKind::kEmbedding; }
  double scale() const { return options_.scale; }
  /// From here on so much of it counts, for weighted sums.
  void weigh(double factor) { options_.scale *= factor; }
  int64_t rank() const { return options_.rank; }

 private:
  int64_t in_features() const { return embedding() ? target_.site->shape[0] : target_.site->shape[1]; }
  int64_t out_features() const { return embedding() ? target_.site->shape[1] : target_.size(); }
  /// Initial values that are drawn, into a and b.
  void draw(Tensor a, Tensor b) const;
  /// LoftQ's pair, into A0 and B0.
  void start_from_loss();
  /// Whether A, or B, is a constant in this pass: its round has not come. It gets no gradient then, so the optimizer
  /// leaves its value and moments as they are. The factor that starts at zero goes first, for the other has no gradient
  /// before it moved.
  bool A_rests(const nn::EditContext& e) const;
  bool B_rests(const nn::EditContext& e) const;
  Var used_A(const nn::EditContext& e) const { return A_rests(e) ? A_.detach() : A_; }
  Var used_B(const nn::EditContext& e) const { return B_rests(e) ? B_.detach() : B_; }

  std::string label() const { return target_.label() + options_.suffix; }

  nn::Target target_;
  PairOptions options_;
  Var A_, B_;
  Tensor A0_, B0_, minus_A0_, minus_B0_;
  bool makes_up_ = false;
};

/// DoRA (Liu et al., 2024): rows of W + s B A are given lengths m that train of their own, y = m ∘ (W + s B A) x / ‖·‖.
/// As the paper advises and PEFT does, the norm counts as a constant in gradients; it is renewed after changed(), from
/// ‖W‖², W Aᵀ and A Aᵀ: no dense W + s B A is formed. The bias is not scaled.
class DoraMagnitude final : public nn::Edit {
 public:
  DoraMagnitude(std::shared_ptr<LoraAdapter> pair, Dtype dtype);

  /// m = ‖W + s B A‖: with B = 0 the model is unchanged, bit for bit.
  void reset();
  /// After A, B or W changed: the norms are made anew when they are next used.
  void changed() { stale_ = true; }

  Var change_output(const nn::EditContext&, const Var& y) const override;
  void merge(const nn::Site&, const Tensor& weight) const override;
  void merge_bias(const nn::Site&, const Tensor& bias) const override;
  Stage merge_stage() const override { return Stage::kOutput; }
  std::vector<nn::Trainable> trainables() const override;

  const nn::Target& target() const { return pair_->target(); }
  const Var& magnitude() const { return magnitude_; }

 private:
  Tensor factors() const;
  const Tensor& norm() const;
  void renew() const;

  std::shared_ptr<LoraAdapter> pair_;
  Var magnitude_;
  mutable Tensor norm_;     // (O) of W + s B A
  mutable Tensor squares_;  // (O) of W, f64
  mutable bool stale_ = true;
};

/// ‖row‖ of the base's weight for rows of a linear; zeros where weights are not there.
Tensor row_norms(const nn::Site& site, int64_t begin, int64_t count, Dtype dtype);

}  // namespace molt::peft

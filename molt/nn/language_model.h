// A causal language model: embedding, layers of norm -> mixer -> residual, final norm, head. Families only say how many
// and which; nothing here knows their names.
#pragma once

#include <memory>
#include <vector>

#include "molt/nn/block.h"
#include "molt/nn/mamba.h"
#include "molt/nn/parts.h"

namespace molt::nn {

/// What one layer is made of.
struct LayerPlan {
  MambaConfig mixer;
};

/// What a family reads from config.json.
struct LanguageModelPlan {
  std::string family;  ///< transformers' model_type
  int64_t vocabulary = 0;
  int64_t d_model = 0;
  double norm_eps = 1e-5;
  bool tied_head = true;
  std::vector<LayerPlan> layers;
};

/// The pre-norm residual layer: h + mixer(norm(h)).
class Layer {
 public:
  Layer(const Scope& scope, const LayerPlan& plan, int64_t d_model, double eps);
  Var operator()(const Context& c, const Var& h, const BlockCarry* in, BlockCarry* out) const;
  BlockCarry carry_after(const Context& c, const Var& h, const BlockCarry* in) const;

 private:
  double eps_;
  Param norm_;
  std::unique_ptr<Block> mixer_;
};

/// A loss as a sum and a count: reduced apart, divided last.
struct LossSum {
  Var sum;            ///< (1): Σ −log p(label) over labelled rows; undefined if there are none
  int64_t count = 0;  ///< labelled rows
};

class LanguageModel {
 public:
  LanguageModel(const LanguageModelPlan& plan, const Precision& precision);
  LanguageModel(const LanguageModel&) = delete;
  LanguageModel& operator=(const LanguageModel&) = delete;

  /// ids (T) -> residual stream after the last layer (T, D). `in`: carry per layer or null; `out`: filled if not null.
  Var hidden(const Context& c, const std::vector<int32_t>& ids, const Carry* in = nullptr, Carry* out = nullptr) const;

  /// The carry after these rows and nothing else: what hidden() fills, without what only its result takes.
  Carry carry_after(const Context& c, const std::vector<int32_t>& ids, const Carry* in = nullptr) const;

  /// Where segments start from if learned rows stand before their first token (prompt tuning), for all segments of `c`;
  /// empty if there are none. hidden() does this itself where it is given no carry.
  Carry start(const Context& c) const;

  /// Chosen rows of hidden() -> logits (rows, V).
  Var logits(const Context& c, const Var& hidden, const std::vector<int64_t>& rows) const;

  /// Cross-entropy of every row whose label is not −100, in chunks: (T, V) never exists. In training, gradients behind
  /// the head are made on the way, so the result must be back-propagated with seed 1, once.
  LossSum loss(const Context& c, const Var& hidden, const std::vector<int32_t>& labels) const;

  const LanguageModelPlan& plan() const { return plan_; }
  const Precision& precision() const { return precision_; }
  SiteTable& sites() { return sites_; }
  const SiteTable& sites() const { return sites_; }
  ParameterTable& parameters() { return parameters_; }
  const ParameterTable& parameters() const { return parameters_; }
  /// Numbers in the base model; a tied head counts once.
  int64_t parameter_count() const;

 private:
  /// Both of the above: `want_hidden` or only `out`.
  Var run(const Context& c, const std::vector<int32_t>& ids, const Carry* in, Carry* out, bool want_hidden) const;

  LanguageModelPlan plan_;
  Precision precision_;
  SiteTable sites_;
  ParameterTable parameters_;
  Embedding embeddings_;
  std::vector<Layer> layers_;
  Param norm_f_;
  Linear head_;
};

/// The lowest layer in which something trains; the number of layers if only what stands above them does; 0 if the
/// embedding does.
int lowest_trained_layer(const LanguageModel& model, const EditSet& edits);

}  // namespace molt::nn

#include "molt/nn/language_model.h"

#include <algorithm>

#include "molt/autograd/recompute.h"
#include "molt/base/error.h"
#include "molt/nn/head_loss.h"
#include "molt/nn/remembered.h"
#include "molt/ops/add.h"
#include "molt/ops/gather_rows.h"
#include "molt/ops/rms_norm.h"

namespace molt::nn {
namespace {

bool layer_trains(const Context& c, const ParameterTable& parameters, int layer) {
  if (c.edits && c.edits->any_in_layer(layer)) return true;
  for (const Parameter& p : parameters) {
    if (p.layer == layer && p.trained) return true;
  }
  return false;
}

}  // namespace

Layer::Layer(const Scope& scope, const LayerPlan& plan, int64_t d_model, double eps)
    : eps_(eps),
      norm_(scope / "norm", "weight", {d_model}),
      mixer_(std::make_unique<MambaMixer>((scope / "mixer").in_preset("mixer"), plan.mixer)) {}

Var Layer::operator()(const Context& c, const Var& h, const BlockCarry* in, BlockCarry* out) const {
  const Var y = mixer_->forward(c, ops::rms_norm(h, norm_(c), eps_), in, out);
  return ops::add(h, y, c.known && c.known->is_final(y.value()));
}

BlockCarry Layer::carry_after(const Context& c, const Var& h, const BlockCarry* in) const {
  return mixer_->carry_after(c, ops::rms_norm(h, norm_(c), eps_), in);
}

LanguageModel::LanguageModel(const LanguageModelPlan& plan, const Precision& precision)
    : plan_(plan), precision_(precision) {
  const Scope root(sites_, parameters_);
  const Scope backbone = root / "backbone";
  embeddings_ = Embedding(backbone, "embeddings", plan.vocabulary, plan.d_model);
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    const Scope scope = (backbone / "layers" / std::to_string(i)).in_layer(static_cast<int>(i));
    layers_.emplace_back(scope, plan.layers[i], plan.d_model, plan.norm_eps);
  }
  norm_f_ = Param(backbone / "norm_f", "weight", {plan.d_model});
  head_ = plan.tied_head ? Linear(root, "lm_head", embeddings_.parameter())
                         : Linear(root, "lm_head", plan.d_model, plan.vocabulary, {}, false);
  head_.weight().head = true;
}

Var LanguageModel::hidden(const Context& c, const std::vector<int32_t>& ids, const Carry* in, Carry* out) const {
  return run(c, ids, in, out, true);
}

Carry LanguageModel::carry_after(const Context& c, const std::vector<int32_t>& ids, const Carry* in) const {
  Carry out;
  run(c, ids, in, &out, false);
  return out;
}

Var LanguageModel::run(const Context& c, const std::vector<int32_t>& ids, const Carry* in, Carry* out,
                       bool want_hidden) const {
  MOLT_CHECK(c.segments && c.segments->tokens() == static_cast<int64_t>(ids.size()), "model: segments cover ",
             c.segments ? c.segments->tokens() : 0, " rows of ", ids.size());
  if (out) out->resize(layers_.size());
  Carry started;
  if (!in) {
    started = start(c);
    if (!started.empty()) in = &started;
  }
  const auto lowest = static_cast<size_t>(c.known ? c.known->lowest() : c.keeps ? c.keeps->lowest() : 0);
  Context below = c;  // what does not train leaves nothing to a second run, which begins above it
  below.keeps = nullptr;
  const Tensor known = c.known ? c.known->take_stream() : Tensor();
  Var h = known.defined() ? Var(known) : embeddings_(c, ids, precision_.activation());
  for (size_t i = known.defined() ? lowest : 0; i < layers_.size(); ++i) {
    if (c.keeps && i == lowest && i > 0) c.keeps->keep_stream(h.value());
    const Context& here = i < lowest ? below : c;
    const BlockCarry* from = in ? &(*in)[i] : nullptr;
    const Layer& layer = layers_[i];
    if (OpObserver* observer = OpObserver::current()) observer->layer = static_cast<int>(i);
    if (!want_hidden && i + 1 == layers_.size()) {
      (*out)[i] = layer.carry_after(here, h, from);
      h = Var();
    } else if (c.recompute && !out && grad_enabled()) {
      const auto again = [c, &layer, carried = from != nullptr](const std::vector<Var>& x) {
        const BlockCarry carry{.conv = x[1], .ssm = x[2]};
        return layer(c, x[0], carried ? &carry : nullptr, nullptr);
      };
      h = molt::recompute(again, {h, from ? from->conv : Var(), from ? from->ssm : Var()},
                          layer_trains(c, parameters_, static_cast<int>(i)));
    } else {
      h = layer(here, h, from, out ? &(*out)[i] : nullptr);
    }
  }
  if (OpObserver* observer = OpObserver::current()) observer->layer = static_cast<int>(layers_.size());
  return h;
}

Carry LanguageModel::start(const Context& c) const {
  Carry carry;
  for (const Var& rows : embeddings_.rows_before(c)) {
    const Segments one = Segments::one(rows.value().rows());
    Context once = c;
    once.segments = &one;
    once.keeps = once.known = nullptr;
    const Carry before = carry;
    carry.assign(layers_.size(), {});
    Var h = rows;
    for (size_t i = 0; i < layers_.size(); ++i)
      h = layers_[i](once, h, before.empty() ? nullptr : &before[i], &carry[i]);
  }
  for (BlockCarry& layer : carry) layer = repeat_carry(layer, c.segments->count());
  return carry;
}

Var LanguageModel::logits(const Context& c, const Var& hidden, const std::vector<int64_t>& rows) const {
  return head_(c, ops::rms_norm(ops::gather_rows(hidden, rows), norm_f_(c), plan_.norm_eps));
}

LossSum LanguageModel::loss(const Context& c, const Var& hidden, const std::vector<int32_t>& labels) const {
  MOLT_CHECK(static_cast<int64_t>(labels.size()) == hidden.value().rows(), "model: ", labels.size(), " labels for ",
             hidden.value().rows(), " rows");
  std::vector<int64_t> rows;
  std::vector<int32_t> kept;
  for (size_t t = 0; t < labels.size(); ++t) {
    if (labels[t] < 0) continue;
    rows.push_back(static_cast<int64_t>(t));
    kept.push_back(labels[t]);
  }
  if (rows.empty()) return {};
  const bool all = rows.size() == labels.size();
  const Var normed = ops::rms_norm(all ? hidden : ops::gather_rows(hidden, rows), norm_f_(c), plan_.norm_eps);
  return {head_loss(c, head_, plan_.vocabulary, normed, kept), static_cast<int64_t>(rows.size())};
}

int lowest_trained_layer(const LanguageModel& model, const EditSet& edits) {
  int lowest = static_cast<int>(model.plan().layers.size());
  const auto at = [&](int layer, bool embedding) {
    if (layer >= 0) lowest = std::min(lowest, layer);
    if (embedding) lowest = 0;
  };
  for (const auto& [id, edit] : edits.all()) {
    const Site& site = model.sites().all()[static_cast<size_t>(id)];
    if (!edit->trainables().empty()) at(site.layer, site.kind == SiteKind::kEmbedding);
  }
  for (const Parameter& p : model.parameters()) {
    if (p.trained) at(p.layer, p.lookup);
  }
  return lowest;
}

int64_t LanguageModel::parameter_count() const {
  int64_t count = 0;
  for (const Parameter& p : parameters_) count += shape_numel(p.shape);
  return count;
}

}  // namespace molt::nn

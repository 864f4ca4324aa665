#include "molt/nn/parts.h"

#include "molt/base/error.h"
#include "molt/nn/remembered.h"
#include "molt/ops/embedding.h"
#include "molt/ops/linear.h"
#include "molt/ops/linear_low_rank.h"
#include "molt/ops/low_rank.h"
#include "molt/ops/scatter_entries.h"
#include "molt/tensor/matrix_view.h"

namespace molt::nn {
namespace {

const std::vector<std::shared_ptr<Edit>>& edits_at(const Context& c, const Site* site) {
  static const std::vector<std::shared_ptr<Edit>> kNone;
  return c.edits ? c.edits->at(site->id) : kNone;
}

Var edited_bias(const Context& c, const Site* site, const Parameter* bias) {
  Var value = bias ? bias->var : Var();
  for (const auto& edit : edits_at(c, site)) value = edit->change_bias({c, *site}, value);
  return value;
}

Var edited_param(const Context& c, const Site* site, Var value) {
  const auto& edits = edits_at(c, site);
  for (const auto& edit : edits) value = edit->change_param({c, *site}, value);
  for (const auto& edit : edits) value = edit->widen_param({c, *site}, value);
  return value;
}

std::vector<Var> rows_of_edits(const Context& c, const Site* site) {
  std::vector<Var> all;
  for (const auto& edit : edits_at(c, site)) {
    const Var rows = edit->rows_before({c, *site});
    if (!rows.defined()) continue;
    MOLT_CHECK(rows.value().rank() == 2 && rows.value().cols() == site->shape.back(), site->path, ": rows of shape ",
               shape_str(rows.value().shape()), " before segments of width ", site->shape.back());
    all.push_back(rows);
  }
  return all;
}

}  // namespace

Scope Scope::operator/(const std::string& name) const {
  Scope inner = *this;
  inner.prefix_ = path(name);
  return inner;
}

Scope Scope::in_layer(int layer) const {
  Scope inner = *this;
  inner.layer_ = layer;
  return inner;
}

Scope Scope::as_ssm() const {
  Scope inner = *this;
  inner.ssm_ = true;
  return inner;
}

Scope Scope::in_preset(const std::string& name) const {
  Scope inner = *this;
  inner.presets_.push_back(name);
  return inner;
}

Parameter& Scope::parameter(const std::string& name, Shape shape) const {
  Parameter& p = parameters_->emplace_back();
  p.path = path(name);
  p.shape = std::move(shape);
  p.layer = layer_;
  p.ssm = ssm_;
  return p;
}

const Site& Scope::site(const std::string& name, SiteKind kind, Shape shape, std::vector<Slice> slices,
                        const Parameter* parameter, const Parameter* bias) const {
  Site site;
  site.path = path(name);
  site.kind = kind;
  site.shape = std::move(shape);
  site.slices = std::move(slices);
  site.layer = layer_;
  site.parameter = parameter;
  site.bias = bias;
  site.ssm = ssm_;
  site.presets = presets_;
  return sites_->add(std::move(site));
}

std::vector<Slice> consecutive(const std::vector<std::pair<std::string, int64_t>>& sizes) {
  std::vector<Slice> slices;
  int64_t begin = 0;
  for (const auto& [name, size] : sizes) {
    slices.push_back({name, begin, size});
    begin += size;
  }
  return slices;
}

Linear::Linear(const Scope& scope, const std::string& name, int64_t in, int64_t out, std::vector<Slice> slices,
               bool bias) {
  weight_ = &(scope / name).parameter("weight", {out, in});
  weight_->product = true;
  weight_->decays = !weight_->ssm;
  if (bias) bias_ = &(scope / name).parameter("bias", {out});
  site_ = &scope.site(name, SiteKind::kLinear, {out, in}, std::move(slices), weight_, bias_);
}

Linear::Linear(const Scope& scope, const std::string& name, Parameter& shared) : weight_(&shared) {
  shared.product = true;
  site_ = &scope.site(name, SiteKind::kLinear, shared.shape, {}, weight_);
}

namespace {
bool can_take_along(const LowRankTerm& term, const PackedMatrix& packed) {
  return term.A.defined() && !term.own_input && ops::can_fuse_low_rank(packed, term.A.value(), term.B.value());
}
}  // namespace

Var Linear::with_low_rank(const EditContext& e, const std::vector<std::shared_ptr<Edit>>& edits,
                          const Product& p) const {
  constexpr int64_t kFew = 32;  // rows of decoding, which do not pay for packing A and B
  if (edits.size() != 1 || weight_->trained || !weight_->packed) return {};
  if (!e.run.training && p.x.value().rows() < kFew) return {};
  const LowRankTerm term = edits[0]->low_rank_term(e);
  if (!can_take_along(term, *weight_->packed)) return {};
  return ops::linear_low_rank(p.x, weight_->packed, p.bias, term.A, term.B, term.scale, term.begin, p.out, p.known);
}

Linear::Keeping Linear::keeping(const EditContext& e, const std::vector<std::shared_ptr<Edit>>& edits) const {
  constexpr int64_t kMostOutputs = 8;  // for each input: dt_proj's would be long rows of short sums
  if ((!e.run.keeps && !e.run.known) || weight_->shape[0] > kMostOutputs * weight_->shape[1]) return Keeping::kNothing;
  if (edits.empty()) return Keeping::kResult;
  return edits.size() == 1 && edits[0]->low_rank_term(e).A.defined() ? Keeping::kResult : Keeping::kProduct;
}

bool Linear::takes_narrow(const Context& c) const {
  const auto& edits = edits_at(c, site_);
  const PackedMatrix* packed = weight_->packed.get();
  if (weight_->trained || !packed || !packed->panels(true) || !packed->panels(false)) return false;
  if (bias_ && bias_->var.needs_grad()) return false;
  if (edits.empty()) return true;
  if (edits.size() > 1) return false;
  const LowRankTerm term = edits[0]->low_rank_term({c, *site_});
  return can_take_along(term, *packed);
}

const PackedMatrix* Linear::plain(const Context& c) const {
  return edits_at(c, site_).empty() && !weight_->trained && !bias_ ? weight_->packed.get() : nullptr;
}

Var Linear::operator()(const Context& c, const Var& x, bool narrow) const {
  const auto& edits = edits_at(c, site_);
  const EditContext e{c, *site_, &x};
  Var in = x;
  for (const auto& edit : edits) in = edit->change_input(e, in);
  const Var bias = edited_bias(c, site_, bias_);
  const Keeping keeping = this->keeping(e, edits);
  const bool whole = keeping == Keeping::kResult;
  const Product p{in, bias, narrow ? Dtype::kBf16 : Dtype::kF32, c.known ? c.known->take(site_->id, whole) : Tensor()};
  Var y = with_low_rank(e, edits, p);
  if (!y.defined()) {
    y = ops::linear(in, weight_->packed, weight_->trained ? weight_->var : Var(), bias, p.out, p.known);
    // Edits may write into its memory.
    if (c.keeps && keeping == Keeping::kProduct) c.keeps->keep_copy(site_->id, y.value());
    for (const auto& edit : edits) {
      if (p.known.defined() && whole) {
        const LowRankTerm term = edit->low_rank_term(e);
        y = ops::low_rank(y, edit->low_rank_input(e, in), term.A, term.B, term.scale, term.begin, true);
      } else {
        y = edit->add_to_output(e, in, y);
      }
    }
  }
  if (c.keeps && whole) c.keeps->keep(site_->id, y.value());
  for (const auto& edit : edits) y = edit->change_output(e, y);
  return y;
}

Conv::Conv(const Scope& scope, const std::string& name, int64_t channels, int64_t width, bool bias) {
  weight_ = &(scope / name).parameter("weight", {channels, width});
  if (bias) bias_ = &(scope / name).parameter("bias", {channels});
  site_ = &scope.site(name, SiteKind::kConv, {channels, width}, {}, weight_, bias_);
}

ops::ConvResult Conv::operator()(const Context& c, const Var& x, const Var& tail, bool want_tail) const {
  const auto& edits = edits_at(c, site_);
  const EditContext e{c, *site_, &x};
  Var in = x;
  for (const auto& edit : edits) in = edit->change_input(e, in);
  const Var weight = edited_param(c, site_, weight_->var);
  ops::ConvResult result = ops::conv1d_silu(in, weight, edited_bias(c, site_, bias_), tail, *c.segments, want_tail);
  for (const auto& edit : edits) result.y = edit->change_output(e, result.y);
  return result;
}

bool Conv::takes_narrow(const Context& c) const {
  return weight_->shape[1] == 4 && !weight_->trained && edits_at(c, site_).empty();
}

Embedding::Embedding(const Scope& scope, const std::string& name, int64_t vocabulary, int64_t width) {
  table_ = &(scope / name).parameter("weight", {vocabulary, width});
  table_->lookup = true;
  table_->decays = true;
  site_ = &scope.site(name, SiteKind::kEmbedding, {vocabulary, width}, {}, table_);
}

Var Embedding::operator()(const Context& c, const std::vector<int32_t>& ids, Dtype out) const {
  const auto& edits = edits_at(c, site_);
  const EditContext e{c, *site_};
  Var y;
  if (table_->var.defined()) {
    y = ops::embedding(table_->var, ids, out);
  } else {
    Tensor rows = Tensor::empty({static_cast<int64_t>(ids.size()), table_->shape[1]}, out);
    table_->packed->gather_rows(std::vector<int64_t>(ids.begin(), ids.end()).data(), matrix_view(rows));
    y = Var(std::move(rows));
  }
  for (const auto& edit : edits) y = edit->add_to_rows(e, ids, y);
  for (const auto& edit : edits) y = edit->change_output(e, y);
  return y;
}

std::vector<Var> Embedding::rows_before(const Context& c) const { return rows_of_edits(c, site_); }

Param::Param(const Scope& scope, const std::string& name, Shape shape) {
  value_ = &scope.parameter(name, shape);
  site_ = &scope.site(name, SiteKind::kParam, std::move(shape), {}, value_);
}

Var Param::operator()(const Context& c) const { return edited_param(c, site_, value_->var); }

Tap::Tap(const Scope& scope, const std::string& name, int64_t width)
    : site_(&scope.site(name, SiteKind::kTap, {width})) {}

Var Tap::operator()(const Context& c, Var x, const Activations& seen) const {
  for (const auto& edit : edits_at(c, site_)) x = edit->change_output({c, *site_, nullptr, &seen}, x);
  return x;
}

bool Tap::takes_narrow(const Context& c) const {
  for (const auto& edit : edits_at(c, site_)) {
    if (!edit->takes_narrow()) return false;
  }
  return true;
}

State::State(const Scope& scope, const std::string& name, Shape per_segment)
    : site_(&scope.site(name, SiteKind::kState, std::move(per_segment))) {}

Var State::operator()(const Context& c) const {
  Var sum;
  for (const auto& edit : edits_at(c, site_)) {
    const Var state = edit->initial_state({c, *site_}, c.segments->count());
    if (state.defined()) sum = sum.defined() ? ops::add_param(sum, state) : state;
  }
  return sum;
}

bool State::edited(const Context& c) const { return !edits_at(c, site_).empty(); }

Prefix::Prefix(const Scope& scope, const std::string& name, int64_t width)
    : site_(&scope.site(name, SiteKind::kPrefix, {width})) {}

std::vector<Var> Prefix::operator()(const Context& c) const { return rows_of_edits(c, site_); }

}  // namespace molt::nn

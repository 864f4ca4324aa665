#include "molt/peft/lora_adapter.h"

#include <cmath>

#include "molt/base/error.h"
#include "molt/base/rng.h"
#include "molt/nn/parameter.h"
#include "molt/ops/dropout.h"
#include "molt/ops/low_rank.h"
#include "molt/ops/param_products.h"
#include "molt/ops/products.h"
#include "molt/ops/scale_columns.h"
#include "molt/ops/scatter_entries.h"
#include "molt/ops/token_rows.h"
#include "molt/peft/base_weight.h"

namespace molt::peft {
namespace {

Tensor negative(const Tensor& t) {
  Tensor out = t.clone();
  out.scale(-1);
  return out;
}

/// ‖row‖² of the base's weight, f64; zeros where weights are not there. In stretches: a dense copy of all would be
/// large.
Tensor row_squares(const nn::Site& site, int64_t begin, int64_t count) {
  const Tensor squares = Tensor::zeros({count}, Dtype::kF64);
  if (!has_weights(site)) return squares;
  constexpr int64_t kRows = 256;
  for (int64_t first = 0; first < count; first += kRows) {
    const int64_t n = std::min(kRows, count - first);
    const Tensor rows = base_rows(site, begin + first, n, Dtype::kF64);
    for (int64_t r = 0; r < n; ++r) {
      double sum = 0;
      for (int64_t c = 0; c < rows.cols(); ++c)
        sum += rows.data<double>()[r * rows.ld() + c] * rows.data<double>()[r * rows.ld() + c];
      squares.data<double>()[first + r] = sum;
    }
  }
  return squares;
}

double squared_norm(const Tensor& matrix) {
  double sum = 0;
  for (const double v : matrix.values()) sum += v * v;
  return sum;
}

/// A row of zeros has no direction; its length counts as one.
double length(double square) { return square > 0 ? std::sqrt(square) : 1; }

}  // namespace

LoraAdapter::LoraAdapter(const nn::Target& target, const PairOptions& options) : target_(target), options_(options) {
  const nn::Site& site = *target.site;
  if (site.shape.size() != 2)
    usage_error("target_modules: ", site.path, " is ", shape_str(site.shape), "; lora needs a matrix");
  if (target.slice && site.kind != nn::SiteKind::kLinear)
    usage_error("target_modules: ", target.label(), ": slices of a ", nn::site_kind_name(site.kind),
                " are not supported");
  A_ = Var::leaf(Tensor::empty({options.rank, in_features()}, options.dtype));
  B_ = Var::leaf(Tensor::empty({out_features(), options.rank}, options.dtype));
  const bool loftq = options.init == "loftq",
             from_base = options.init.rfind("pissa", 0) == 0 || options.init == "olora";
  if ((from_base || loftq) && site.kind != nn::SiteKind::kLinear)
    usage_error("init_lora_weights: ", options.init, " takes its values from a linear's weight; ", site.path, " is a ",
                nn::site_kind_name(site.kind));
  if (from_base || loftq) {
    A0_ = Tensor::zeros(A_.value().shape(), options.dtype);
    B0_ = Tensor::zeros(B_.value().shape(), options.dtype);
    if (loftq) {
      start_from_loss();
    } else if (has_weights(site)) {
      const Tensor W = base_rows(site, target.begin(), target.size(), options.dtype);
      const std::string niter = "pissa_niter_";
      const int64_t iterations =
          options.init.rfind(niter, 0) == 0 ? std::atoll(options.init.c_str() + niter.size()) : 24;
      auto [a, b] = options.init == "olora" ? leading_qr_pair(W, options.rank)
                                            : principal_pair(W, options.rank, options.scale, iterations, options.seed);
      A0_.copy_from(a);
      B0_.copy_from(b);
    }
    origin_changed();
  }
  reset();
}

// The best approximation of rank R of what the base lost. PEFT shares its singular values evenly between A and B; they
// are so small that both would learn slowly, so A's rows have the length that drawn ones have, and B the rest. Where
// nothing is lost a row is as drawn.
void LoraAdapter::start_from_loss() {
  draw(A0_, B0_);
  const Tensor lost = lost_rows(*target_.site, target_.begin(), target_.size(), options_.dtype);
  if (!lost.defined()) return;
  const int64_t rank = std::min({options_.rank, lost.rows(), lost.cols()});
  const auto [a, b] = principal_pair(lost, rank, options_.scale, 24, options_.seed);
  for (int64_t r = 0; r < rank; ++r) {
    Tensor row = a.row_range(r, 1), column = b.col_range(r, 1), to = B0_.col_range(r, 1);
    double square = 0;
    for (const double v : row.values()) square += v * v;
    if (square == 0) continue;
    const double factor = std::sqrt(square * 3);
    row.scale(1 / factor);
    column.scale(factor);
    A0_.row_range(r, 1).copy_from(row);
    to.copy_from(column);
  }
}

void LoraAdapter::origin_changed() {
  minus_A0_ = negative(A0_), minus_B0_ = negative(B0_);
  if (options_.init != "loftq") return;
  const Tensor lost = lost_rows(*target_.site, target_.begin(), target_.size(), options_.dtype);
  makes_up_ = false;
  if (!lost.defined()) return;
  const Tensor rest = lost.clone();
  ops::multiply(false, false, -options_.scale, B0_, A0_, {rest, true});
  makes_up_ = squared_norm(rest) < squared_norm(lost);
}

void LoraAdapter::reset() {
  Tensor a = A_.value(), b = B_.value();
  if (!has_origin()) return draw(a, b);
  a.copy_from(A0_);
  b.copy_from(B0_);
}

// A uniform in ±1/sqrt(in) (kaiming_uniform with a = sqrt(5)), or normal with deviation 1/R ("gaussian"), B zero; of an
// embedding A zero, B standard normal. All as PEFT.
void LoraAdapter::draw(Tensor a, Tensor b) const {
  const bool gaussian = options_.init == "gaussian";
  Tensor drawn = embedding() ? b : a;
  const Rng rng(options_.seed, label() + (embedding() ? ".lora_B" : ".lora_A"));
  const double bound = 1 / std::sqrt(static_cast<double>(in_features()));
  std::vector<double> values(static_cast<size_t>(drawn.numel()));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = embedding() ? rng.normal(i)
                : gaussian  ? rng.normal(i) / static_cast<double>(options_.rank)
                            : (2 * rng.uniform(i) - 1) * bound;
  }
  drawn.copy_from(Tensor::from(values, drawn.shape()));
  (embedding() ? a : b).fill(0);
}

Var LoraAdapter::low_rank_input(const nn::EditContext& e, const Var& x) const {
  if (!e.run.training || options_.dropout == 0) return x;
  const uint64_t key = mix_keys(mix_keys(e.run.seed, e.run.step), hash_name(label()));
  return ops::dropout(x, options_.dropout, key, e.run.first_row);
}

bool LoraAdapter::A_rests(const nn::EditContext& e) const {
  if (!e.run.training || options_.alternate == 0) return false;
  const bool second = e.run.phase_step / options_.alternate % 2 == 1;
  return second == embedding();
}

bool LoraAdapter::B_rests(const nn::EditContext& e) const {
  return e.run.training && options_.alternate > 0 && !A_rests(e);
}

// With an origin that is taken away: s (B A − B0 A0) x = s ((B − B0) A x + B0 (A − A0) x), which is nothing at the
// start, bit for bit.
Var LoraAdapter::add_to_output(const nn::EditContext& e, const Var& x, const Var& y) const {
  const double s = options_.scale;
  const Var A = used_A(e), B = used_B(e);
  if (!origin_subtracts()) return ops::low_rank(y, low_rank_input(e, x), A, B, s, target_.begin());
  if (e.run.training && options_.dropout > 0) {
    const Var with = ops::low_rank(y, low_rank_input(e, x), A, B, s, target_.begin());
    return ops::low_rank(with, x, Var(A0_), Var(B0_), -s, target_.begin());
  }
  const Var moved = ops::low_rank(y, x, A, ops::add_param(B, Var(minus_B0_)), s, target_.begin());
  return ops::low_rank(moved, x, ops::add_param(A, Var(minus_A0_)), Var(B0_), s, target_.begin());
}

nn::LowRankTerm LoraAdapter::low_rank_term(const nn::EditContext& e) const {
  if (origin_subtracts()) return {};
  return {used_A(e), used_B(e), options_.scale, target_.begin(), e.run.training && options_.dropout > 0};
}

std::vector<nn::LowRankTerm> LoraAdapter::folded() const {
  const int64_t begin = embedding() ? 0 : target_.begin();
  std::vector<nn::LowRankTerm> terms{{A_, B_, options_.scale, begin}};
  if (has_origin()) terms.push_back({Var(A0_), Var(minus_B0_), options_.scale, begin});
  return terms;
}

Var LoraAdapter::add_to_rows(const nn::EditContext& e, const std::vector<int32_t>& ids, const Var& y) const {
  return ops::low_rank_rows(y, used_A(e), used_B(e), ids, options_.scale);
}

Var LoraAdapter::change_param(const nn::EditContext& e, const Var& p) const {
  return ops::add_param(p, ops::param_product(used_B(e), used_A(e), options_.scale));
}

void LoraAdapter::merge(const nn::Site&, const Tensor& weight) const {
  const Tensor a = A_.value().to(weight.dtype()), b = B_.value().to(weight.dtype());
  if (embedding()) {
    ops::multiply(true, true, options_.scale, a, b, {weight, true});
    return;
  }
  const Tensor rows = weight.row_range(target_.begin(), target_.size());
  ops::multiply(false, false, options_.scale, b, a, {rows, true});
  if (has_origin())
    ops::multiply(false, false, -options_.scale, B0_.to(weight.dtype()), A0_.to(weight.dtype()), {rows, true});
}

std::vector<nn::Trainable> LoraAdapter::trainables() const {
  return {{label() + ".lora_A", A_}, {label() + ".lora_B", B_, true, options_.b_lr_scale}};
}

Tensor row_norms(const nn::Site& site, int64_t begin, int64_t count, Dtype dtype) {
  const Tensor squares = row_squares(site, begin, count);
  for (int64_t i = 0; i < count; ++i) squares.data<double>()[i] = length(squares.data<double>()[i]);
  return squares.to(dtype);
}

DoraMagnitude::DoraMagnitude(std::shared_ptr<LoraAdapter> pair, Dtype dtype) : pair_(std::move(pair)) {
  const nn::Target& t = pair_->target();
  if (t.site->kind != nn::SiteKind::kLinear)
    usage_error("use_dora: ", t.site->path, " is a ", nn::site_kind_name(t.site->kind), "; DoRA acts on linears");
  magnitude_ = Var::leaf(Tensor::empty({t.size()}, dtype));
  norm_ = Tensor::empty({t.size()}, dtype);
  squares_ = row_squares(*t.site, t.begin(), t.size());
  reset();
}

void DoraMagnitude::reset() {
  stale_ = true;
  Tensor m = magnitude_.value();
  m.copy_from(norm());
}

const Tensor& DoraMagnitude::norm() const {
  if (stale_) renew();
  return norm_;
}

void DoraMagnitude::renew() const {
  stale_ = false;
  const nn::Target& t = pair_->target();
  if (!has_weights(*t.site)) {
    norm_.fill(1);
    stale_ = true;  // until weights are there
    return;
  }
  if (t.site->parameter->trained) squares_ = row_squares(*t.site, t.begin(), t.size());
  // ‖W + s (B A − B0 A0)‖², from products with the base of rank R only.
  struct Part {
    Tensor a, b;
    double s;
  };
  std::vector<Part> parts{{pair_->A().value(), pair_->B().value(), pair_->scale()}};
  if (pair_->origin_subtracts()) parts.push_back({pair_->A0(), pair_->B0(), -pair_->scale()});
  const int64_t O = t.size();
  std::vector<double> sum = squares_.values();
  for (const Part& p : parts) {
    const int64_t R = p.a.rows();
    const std::vector<double> aw = times_base(*t.site, p.a).col_range(t.begin(), O).clone().values(), b = p.b.values();
    for (int64_t o = 0; o < O; ++o) {
      for (int64_t r = 0; r < R; ++r)
        sum[static_cast<size_t>(o)] += 2 * p.s * b[static_cast<size_t>(o * R + r)] * aw[static_cast<size_t>(r * O + o)];
    }
    for (const Part& q : parts) {
      const int64_t S = q.a.rows();
      const Tensor aa = Tensor::empty({R, S}, Dtype::kF64), ba = Tensor::empty({O, S}, Dtype::kF64);
      ops::multiply(false, true, p.s * q.s, p.a.to(Dtype::kF64), q.a.to(Dtype::kF64), {aa, false});
      ops::multiply(false, false, 1, p.b.to(Dtype::kF64), aa, {ba, false});
      const std::vector<double> left = ba.values(), right = q.b.values();
      for (int64_t o = 0; o < O; ++o) {
        for (int64_t r = 0; r < S; ++r)
          sum[static_cast<size_t>(o)] += left[static_cast<size_t>(o * S + r)] * right[static_cast<size_t>(o * S + r)];
      }
    }
  }
  for (double& v : sum) v = length(v);
  norm_ = Tensor::from(sum, {O}).to(norm_.dtype());  // new memory: the tape may hold the old
}

Var DoraMagnitude::change_output(const nn::EditContext&, const Var& y) const {
  const nn::Target& t = pair_->target();
  Var bias;
  if (const nn::Parameter* b = t.site->bias) bias = Var(b->var.value().row_range(t.begin(), t.size()));
  return ops::scale_columns(y, magnitude_, t.begin(), bias, norm());
}

Tensor DoraMagnitude::factors() const {
  const std::vector<double> m = magnitude_.value().values(), n = norm().values();
  std::vector<double> k(m.size());
  for (size_t i = 0; i < m.size(); ++i) k[i] = m[i] / n[i];
  return Tensor::from(k, {static_cast<int64_t>(k.size())});
}

void DoraMagnitude::merge(const nn::Site&, const Tensor& weight) const {
  const Tensor k = factors();
  for (int64_t o = 0; o < k.numel(); ++o) {
    Tensor row = weight.row_range(pair_->target().begin() + o, 1);
    row.scale(k.data<double>()[o]);
  }
}

void DoraMagnitude::merge_bias(const nn::Site& site, const Tensor& bias) const {
  const std::vector<double> k = factors().values(), base = site.bias->var.value().values();
  std::vector<double> values = bias.values();
  for (size_t i = 0; i < k.size(); ++i) {
    const size_t o = static_cast<size_t>(pair_->target().begin()) + i;
    values[o] = k[i] * values[o] + (1 - k[i]) * base[o];
  }
  Tensor to = bias;
  to.copy_from(Tensor::from(values, bias.shape()));
}

std::vector<nn::Trainable> DoraMagnitude::trainables() const {
  return {{pair_->target().label() + ".lora_magnitude_vector", magnitude_, false}};
}

}  // namespace molt::peft

#include "molt/peft/lycoris.h"

#include <algorithm>

#include "molt/base/error.h"
#include "molt/ops/kron_add.h"
#include "molt/ops/low_rank.h"
#include "molt/ops/param_products.h"
#include "molt/peft/foldable.h"
#include "molt/peft/kaiming.h"
#include "molt/peft/sizes.h"

namespace molt::peft {
namespace {

class HadamardEdit final : public TargetEdit, public Foldable {
 public:
  HadamardEdit(const nn::Target& target, int64_t r, double scale, uint64_t seed, Dtype dtype)
      : TargetEdit(target), scale_(scale) {
    const int64_t O = target.size(), I = target.site->shape[1];
    auto drawn = [&](Shape shape, const char* name) {
      return Var::leaf(kaiming(std::move(shape), dtype, seed, name_of(name)));
    };
    a1_ = drawn({O, r}, "hada_w1_a"), b1_ = drawn({r, I}, "hada_w1_b"), a2_ = drawn({O, r}, "hada_w2_a");
    b2_ = Var::leaf(Tensor::zeros({r, I}, dtype));
  }
  Var add_to_output(const nn::EditContext&, const Var& x, const Var& y) const override {
    return ops::low_rank(y, x, ops::pair_products(b1_, b2_, true), ops::pair_products(a1_, a2_, false), scale_,
                         target_.begin());
  }
  std::vector<nn::LowRankTerm> folded() const override {
    const NoGrad no_grad;
    return {{ops::pair_products(b1_, b2_, true), ops::pair_products(a1_, a2_, false), scale_, target_.begin()}};
  }
  void merge(const nn::Site&, const Tensor& weight) const override { merge_terms(folded(), weight); }
  std::vector<nn::Trainable> trainables() const override {
    return {{name_of("hada_w1_a"), a1_},
            {name_of("hada_w1_b"), b1_},
            {name_of("hada_w2_a"), a2_},
            {name_of("hada_w2_b"), b2_}};
  }

 private:
  double scale_;
  Var a1_, b1_, a2_, b2_;
};

class KroneckerEdit final : public TargetEdit {
 public:
  KroneckerEdit(const nn::Target& target, const LokrConfig& c, uint64_t seed, Dtype dtype)
      : TargetEdit(target), scale_(c.alpha / static_cast<double>(c.r)) {
    const auto [o1, o2] = two_factors(target.size(), c.decompose_factor);
    const auto [i1, i2] = two_factors(target.site->shape[1], c.decompose_factor);
    auto drawn = [&](Shape shape, const char* name) {
      return Var::leaf(kaiming(std::move(shape), dtype, seed, name_of(name)));
    };
    if (c.decompose_both && 2 * c.r < std::max(o1, i1)) {
      w1a_ = Var::leaf(Tensor::zeros({o1, c.r}, dtype)), w1b_ = drawn({c.r, i1}, "lokr_w1_b");
    } else {
      w1_ = Var::leaf(Tensor::zeros({o1, i1}, dtype));
    }
    if (2 * c.r < std::max(o2, i2)) {
      w2a_ = drawn({o2, c.r}, "lokr_w2_a"), w2b_ = drawn({c.r, i2}, "lokr_w2_b");
    } else {
      w2_ = drawn({o2, i2}, "lokr_w2");
    }
  }
  Var add_to_output(const nn::EditContext&, const Var& x, const Var& y) const override {
    return ops::kron_add(y, x, first(), second(), scale_, target_.begin());
  }
  void merge(const nn::Site&, const Tensor& weight) const override {
    const NoGrad no_grad;
    const Tensor a = first().value().to(Dtype::kF64), b = second().value().to(Dtype::kF64);
    with_compute_type(weight.dtype(), [&](auto tag) {
      using T = decltype(tag);
      for (int64_t o = 0; o < target_.size(); ++o) {
        T* row = weight.data<T>() + (target_.begin() + o) * weight.ld();
        for (int64_t i = 0; i < weight.cols(); ++i)
          row[i] += static_cast<T>(scale_ * a.data<double>()[o / b.rows() * a.cols() + i / b.cols()] *
                                   b.data<double>()[o % b.rows() * b.cols() + i % b.cols()]);
      }
    });
  }
  std::vector<nn::Trainable> trainables() const override {
    std::vector<nn::Trainable> all;
    const std::pair<const char*, const Var*> named[] = {{"lokr_w1", &w1_}, {"lokr_w1_a", &w1a_}, {"lokr_w1_b", &w1b_},
                                                        {"lokr_w2", &w2_}, {"lokr_w2_a", &w2a_}, {"lokr_w2_b", &w2b_}};
    for (const auto& [name, var] : named) {
      if (var->defined()) all.push_back({name_of(name), *var});
    }
    return all;
  }

 private:
  Var first() const { return w1_.defined() ? w1_ : ops::param_product(w1a_, w1b_); }
  Var second() const { return w2_.defined() ? w2_ : ops::param_product(w2a_, w2b_); }

  double scale_;
  Var w1_, w1a_, w1b_, w2_, w2a_, w2b_;
};

void check_rank(const char* name, int64_t r) { check_size(str(name, ": r"), r); }

const std::vector<const char*> kRefused = {"exclude_modules", "modules_to_save",     "rank_pattern",
                                           "alpha_pattern",   "layers_to_transform", "layers_pattern"};

}  // namespace

std::pair<int64_t, int64_t> two_factors(int64_t n, int64_t factor) {
  if (factor > 0 && n % factor == 0) return {factor, n / factor};
  if (factor == -1) factor = n;
  int64_t a = 1, b = n;
  const int64_t length = a + b;
  while (a < b) {
    int64_t next = a + 1;
    while (n % next != 0) ++next;
    if (next + n / next > length || next > factor) break;
    a = next, b = n / next;
  }
  return {std::min(a, b), std::max(a, b)};
}

Loha::Loha(Config config, uint64_t seed, Dtype dtype) : EditMethod(std::move(config), seed, dtype) {
  check_rank(Config::kName, config_.r);
}

void Loha::attach(const nn::SiteTable& sites) {
  const double scale = config_.alpha / static_cast<double>(config_.r);
  place(sites, config_.target_modules, {nn::SiteKind::kLinear},
        [&](const nn::Target& t) { return std::make_shared<HadamardEdit>(t, config_.r, scale, seed_, dtype_); });
}

std::vector<MethodOptions> Loha::from_peft(const Json& config, const std::string& where) {
  refuse_set(config, kRefused, where);
  if (!is_set(config, "target_modules")) usage_error(where, ": target_modules is missing");
  return {{LohaConfig::kName, taken(config, {"r", "alpha", "target_modules"})}};
}

Json Loha::peft_config() const {
  Json json = peft_base(kPeftType);
  json.update({{"r", config_.r},
               {"alpha", json_number(config_.alpha)},
               {"target_modules", whole_modules(edits_, LohaConfig::kName)},
               {"rank_dropout", 0.0},
               {"module_dropout", 0.0},
               {"init_weights", true},
               {"modules_to_save", nullptr}});
  return json;
}

Lokr::Lokr(Config config, uint64_t seed, Dtype dtype) : EditMethod(std::move(config), seed, dtype) {
  check_rank(Config::kName, config_.r);
  if (config_.decompose_factor < 1 && config_.decompose_factor != -1)
    usage_error("lokr: decompose_factor must be at least 1, or -1, is ", config_.decompose_factor);
}

void Lokr::attach(const nn::SiteTable& sites) {
  place(sites, config_.target_modules, {nn::SiteKind::kLinear},
        [&](const nn::Target& t) { return std::make_shared<KroneckerEdit>(t, config_, seed_, dtype_); });
}

std::vector<MethodOptions> Lokr::from_peft(const Json& config, const std::string& where) {
  refuse_set(config, kRefused, where);
  if (!is_set(config, "target_modules")) usage_error(where, ": target_modules is missing");
  return {{LokrConfig::kName, taken(config, {"r", "alpha", "decompose_both", "decompose_factor", "target_modules"})}};
}

Json Lokr::peft_config() const {
  Json json = peft_base(kPeftType);
  json.update({{"r", config_.r},
               {"alpha", json_number(config_.alpha)},
               {"decompose_both", config_.decompose_both},
               {"decompose_factor", config_.decompose_factor},
               {"target_modules", whole_modules(edits_, LokrConfig::kName)},
               {"rank_dropout", 0.0},
               {"module_dropout", 0.0},
               {"init_weights", true},
               {"modules_to_save", nullptr}});
  return json;
}

}  // namespace molt::peft

#include "molt/peft/state_offset.h"

#include <cmath>

#include "molt/base/error.h"
#include "molt/base/rng.h"
#include "molt/ops/dense_add.h"
#include "molt/ops/gated_add.h"
#include "molt/ops/offset_readout.h"
#include "molt/ops/param_products.h"
#include "molt/ops/reshape.h"
#include "molt/peft/sizes.h"

namespace molt::peft {
namespace {

/// Rows and columns of a vector of n written as a matrix, as square as its divisors allow.
std::pair<int64_t, int64_t> folded(int64_t n) {
  auto rows = static_cast<int64_t>(std::sqrt(static_cast<double>(n)));
  while (n % rows != 0) --rows;
  return {rows, n / rows};
}

Var times_transposed(const Var& a, const Var& b) {  // a · bᵀ
  return ops::dense_add(Var(Tensor::zeros({a.value().rows(), b.value().rows()}, a.value().dtype())), a, b);
}

class Offset final : public TargetEdit {
 public:
  /// `states`: N, or 0 for an offset of the output.
  Offset(const nn::Target& target, int64_t states, const StateOffsetConfig& config, uint64_t seed, Dtype dtype)
      : TargetEdit(target), states_(states), seed_(seed), init_std_(config.init_std) {
    const int64_t E = target.site->shape[0];
    if (config.r == 0) {
      direct_ = Var::leaf(Tensor::empty(states > 0 ? Shape{E, states} : Shape{E}, dtype));
    } else {
      const auto [rows, cols] = states > 0 ? std::pair{E, states} : folded(E);
      cols_ = cols;
      A_ = Var::leaf(Tensor::empty(states > 0 ? Shape{config.r, cols} : Shape{cols, config.r}, dtype));
      B_ = Var::leaf(Tensor::empty({rows, config.r}, dtype));
    }
    reset();
  }
  void reset() override {
    const bool low_rank = A_.defined();
    if (low_rank) {
      Tensor B = B_.value();
      B.fill(0);
    }
    // A as LoRA's, uniform within ±1/sqrt(columns).
    const Rng rng(seed_, name_of(low_rank ? word() + "_A" : word()));
    Tensor value = low_rank ? A_.value() : direct_.value();
    const double bound = 1 / std::sqrt(static_cast<double>(cols_));
    std::vector<double> values(static_cast<size_t>(value.numel()));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = low_rank ? (2 * rng.uniform(i) - 1) * bound : init_std_ * rng.normal(i);
    value.copy_from(Tensor::from(values, value.shape()));
  }

  Var change_output(const nn::EditContext& e, const Var& y) const override {
    const Var& z = e.seen->z;
    if (states_ == 0) {
      const int64_t E = target_.site->shape[0];
      return ops::gated_add(y, z, A_.defined() ? ops::reshape(times_transposed(B_, A_), {E}) : direct_);
    }
    // Only the model's own states have an offset, where a method has added others.
    const Var C = e.seen->C.value().cols() > states_ ? e.seen->C.columns(0, states_) : e.seen->C;
    return ops::offset_readout(y, z, C, A_.defined() ? ops::param_product(B_, A_) : direct_);
  }
  bool takes_narrow() const override { return true; }
  void merge(const nn::Site& site, const Tensor&) const override {
    usage_error(site.path, ": an offset behind the scan is no weight of a checkpoint; it stays an adapter");
  }
  std::vector<nn::Trainable> trainables() const override {
    if (A_.defined()) return {{name_of(word() + "_A"), A_, false}, {name_of(word() + "_B"), B_, false}};
    return {{name_of(word()), direct_, false}};
  }

 private:
  std::string word() const { return states_ > 0 ? "state_offset" : "output_offset"; }

  int64_t states_, cols_ = 1;
  uint64_t seed_;
  double init_std_;
  Var direct_;  // (E, N) or (E)
  Var A_, B_;   // of the state: (R, N), (E, R); of the output, E = m · n: (n, R), (m, R)
};

}  // namespace

StateOffset::StateOffset(StateOffsetConfig config, uint64_t seed, Dtype dtype)
    : EditMethod(std::move(config), seed, dtype) {
  if (config_.offset != "h" && config_.offset != "y")
    usage_error("state_offset: offset must be h or y, is '", config_.offset, "'");
  check_size("state_offset: r", config_.r, 0);
  if (!(config_.init_std >= 0)) usage_error("state_offset: init_std must not be negative, is ", config_.init_std);
}

void StateOffset::attach(const nn::SiteTable& sites) {
  place(sites, config_.target_modules, {nn::SiteKind::kTap}, [&](const nn::Target& target) {
    const std::string& path = target.site->path;
    const std::string taps = path.substr(0, path.rfind('.') + 1);
    const nn::Site* C = sites.find(taps + "C");
    if (path != taps + "y" || !C) usage_error("state_offset: ", path, " is not the output of a state-space layer");
    return std::make_shared<Offset>(target, config_.offset == "h" ? C->shape[0] : 0, config_, seed_, dtype_);
  });
}

}  // namespace molt::peft

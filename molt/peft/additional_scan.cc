#include "molt/peft/additional_scan.h"

#include <cmath>

#include "molt/base/error.h"
#include "molt/base/rng.h"
#include "molt/nn/parameter.h"
#include "molt/ops/concat_columns.h"
#include "molt/ops/dense_add.h"
#include "molt/peft/sizes.h"

namespace molt::peft {
namespace {

constexpr const char* kSuffix = "additional_scan";

[[noreturn]] void refuse_merge(const nn::Site& site) {
  usage_error(site.path, ": additional states change the model's state_size, so they stay an adapter");
}

/// Further columns of A_log.
class MoreA final : public TargetEdit {
 public:
  MoreA(const nn::Target& target, int64_t states, Dtype dtype)
      : TargetEdit(target), more_(Var::leaf(Tensor::zeros({target.site->shape[0], states}, dtype))) {
    reset();
  }
  void reset() override {
    const Var base = target_.site->parameter ? target_.site->parameter->var : Var();
    if (!base.defined()) return;  // nothing is loaded: somebody only counts
    const Tensor last = base.value().col_range(base.value().cols() - 1, 1);
    for (int64_t n = 0; n < more_.value().cols(); ++n) {
      Tensor column = more_.value().col_range(n, 1);
      column.copy_from(last);
    }
  }
  Var widen_param(const nn::EditContext&, const Var& p) const override { return ops::concat_columns(p, more_); }
  void merge(const nn::Site& site, const Tensor&) const override { refuse_merge(site); }
  std::vector<nn::Trainable> trainables() const override { return {{name_of(kSuffix), more_, false}}; }

 private:
  Var more_;
};

/// Further rows of x_proj, at the tap behind it: B (or C) is x · Wᵀ for them too.
class MoreRows final : public TargetEdit {
 public:
  MoreRows(const nn::Target& target, int64_t states, int64_t width, bool zero, uint64_t seed, Dtype dtype)
      : TargetEdit(target), zero_(zero), seed_(seed), more_(Var::leaf(Tensor::zeros({states, width}, dtype))) {
    reset();
  }
  void reset() override {
    Tensor value = more_.value();
    value.fill(0);
    if (zero_) return;
    const Rng rng(seed_, name_of(kSuffix));
    const double bound = 1 / std::sqrt(static_cast<double>(value.cols()));
    std::vector<double> values(static_cast<size_t>(value.numel()));
    for (size_t i = 0; i < values.size(); ++i) values[i] = (2 * rng.uniform(i) - 1) * bound;
    value.copy_from(Tensor::from(values, value.shape()));
  }
  Var change_output(const nn::EditContext& e, const Var& y) const override {
    const Var& x = e.seen->x;
    const Var product(Tensor::zeros({x.value().rows(), more_.value().rows()}, x.value().dtype()));
    return ops::concat_columns(y, ops::dense_add(product, x, more_));
  }
  bool takes_narrow() const override { return true; }  // of the f32 rest it reads and writes
  void merge(const nn::Site& site, const Tensor&) const override { refuse_merge(site); }
  std::vector<nn::Trainable> trainables() const override { return {{name_of(kSuffix), more_, false}}; }

 private:
  bool zero_;
  uint64_t seed_;
  Var more_;
};

}  // namespace

AdditionalScan::AdditionalScan(AdditionalScanConfig config, uint64_t seed, Dtype dtype)
    : EditMethod(std::move(config), seed, dtype) {
  check_size("additional_scan: extra_states", config_.extra_states);
}

void AdditionalScan::attach(const nn::SiteTable& sites) {
  const int64_t states = config_.extra_states;
  std::vector<std::shared_ptr<TargetEdit>> rows;
  place(sites, config_.target_modules, {nn::SiteKind::kParam}, [&](const nn::Target& target) {
    const nn::Site& A_log = *target.site;
    const std::string mixer = A_log.path.substr(0, A_log.path.rfind('.') + 1);
    const nn::Site *B = sites.find(mixer + "tap.B"), *C = sites.find(mixer + "tap.C");
    if (A_log.path != mixer + "A_log" || A_log.shape.size() != 2 || !B || !C)
      usage_error("additional_scan: ", A_log.path, " is no A_log of shape (E, N) with B and C of its own");
    rows.push_back(std::make_shared<MoreRows>(nn::Target{B, nullptr}, states, A_log.shape[0], false, seed_, dtype_));
    rows.push_back(std::make_shared<MoreRows>(nn::Target{C, nullptr}, states, A_log.shape[0], true, seed_, dtype_));
    return std::make_shared<MoreA>(target, states, dtype_);
  });
  edits_.insert(edits_.end(), rows.begin(), rows.end());
}

}  // namespace molt::peft

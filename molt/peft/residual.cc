#include "molt/peft/residual.h"

#include "molt/ops/scatter_entries.h"

namespace molt::peft {
namespace {

class Change final : public TargetEdit {
 public:
  Change(const nn::Target& target, Dtype dtype)
      : TargetEdit(target), delta_(Var::leaf(Tensor::zeros(target.site->shape, dtype))) {}
  void reset() override {
    Tensor delta = delta_.value();
    delta.fill(0);
  }
  Var change_param(const nn::EditContext&, const Var& p) const override { return ops::add_param(p, delta_); }
  void merge(const nn::Site&, const Tensor& weight) const override {
    Tensor to = weight;
    to.add(delta_.value().to(weight.dtype()));
  }
  std::vector<nn::Trainable> trainables() const override { return {{name_of("residual"), delta_, true}}; }

 private:
  Var delta_;
};

}  // namespace

void Residual::attach(const nn::SiteTable& sites) {
  place(sites, config_.target_modules, {nn::SiteKind::kParam, nn::SiteKind::kConv},
        [&](const nn::Target& target) { return std::make_shared<Change>(target, dtype_); });
}

}  // namespace molt::peft

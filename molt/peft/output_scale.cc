#include "molt/peft/output_scale.h"

#include "molt/nn/parameter.h"
#include "molt/ops/scale_columns.h"

namespace molt::peft {

OutputScale::OutputScale(const nn::Target& target, std::string suffix, Dtype dtype)
    : TargetEdit(target), suffix_(std::move(suffix)), scale_(Var::leaf(Tensor::empty({target.size()}, dtype))) {
  OutputScale::reset();
}

void OutputScale::reset() {
  Tensor s = scale_.value();
  s.fill(1);
}

Var OutputScale::change_output(const nn::EditContext&, const Var& y) const {
  const nn::Parameter* b = target_.site->bias;
  return ops::scale_columns(y, scale_, 0, b ? Var(b->var.value()) : Var());
}

void OutputScale::merge(const nn::Site&, const Tensor& weight) const {
  const std::vector<double> s = scale_.value().values();
  for (size_t o = 0; o < s.size(); ++o) {
    Tensor row = weight.row_range(static_cast<int64_t>(o), 1);
    row.scale(s[o]);
  }
}

void OutputScale::merge_bias(const nn::Site& site, const Tensor& bias) const {
  const std::vector<double> s = scale_.value().values(), base = site.bias->var.value().values();
  std::vector<double> values = bias.values();
  for (size_t o = 0; o < s.size(); ++o) values[o] = s[o] * values[o] + (1 - s[o]) * base[o];
  Tensor to = bias;
  to.copy_from(Tensor::from(values, bias.shape()));
}

std::vector<std::pair<std::string, Tensor>> OutputScale::tensors() const {
  return {{suffix_, scale_.value().reshape({target_.size(), 1})}};
}

}  // namespace molt::peft

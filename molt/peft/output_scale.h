// Factors of a linear's outputs, but not of its bias: a part of BOFT and ProDiaL.
#pragma once

#include "molt/peft/edit_method.h"

namespace molt::peft {

/// y = s ∘ (y − b) + b with b the base's bias; s (O) starts at 1. Whole linears only.
class OutputScale final : public TargetEdit {
 public:
  /// `suffix`: the tensor's name behind the site's; it is stored as (O, 1).
  OutputScale(const nn::Target& target, std::string suffix, Dtype dtype);
  Var change_output(const nn::EditContext&, const Var& y) const override;
  void merge(const nn::Site&, const Tensor& weight) const override;
  void merge_bias(const nn::Site& site, const Tensor& bias) const override;
  Stage merge_stage() const override { return Stage::kOutput; }
  std::vector<nn::Trainable> trainables() const override { return {{name_of(suffix_), scale_, false}}; }
  std::vector<std::pair<std::string, Tensor>> tensors() const override;
  void reset() override;

 private:
  std::string suffix_;
  Var scale_;
};

}  // namespace molt::peft

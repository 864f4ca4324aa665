// One LoRA pair at one target: the edit behind peft/lora.h.
#pragma once

#include <cmath>

#include "molt/base/rng.h"
#include "molt/ops/dropout.h"
#include "molt/ops/low_rank.h"
#include "molt/peft/lora.h"

namespace molt::peft {

/// The pair (A, B) of one target.
class LoraAdapter final : public nn::Edit {
 public:
  LoraAdapter(const nn::Target& target, int64_t rank, double scale, double dropout, uint64_t seed, Dtype dtype)
      : target_(target), rank_(rank), scale_(scale), dropout_(dropout), key_(seed) {
    A_ = Var::leaf(Tensor::empty({rank, in_features()}, dtype));
    B_ = Var::leaf(Tensor::empty({target.size(), rank}, dtype));
    reset();
  }

  /// A uniform in ±1/sqrt(in) (kaiming_uniform with a = sqrt(5)), B zero: the model starts unchanged.
  void reset() {
    Tensor a = A_.value(), b = B_.value();
    const Rng rng(key_, target_.label() + ".lora_A");
    const double bound = 1 / std::sqrt(static_cast<double>(in_features()));
    std::vector<double> values(static_cast<size_t>(a.numel()));
    for (size_t i = 0; i < values.size(); ++i) values[i] = (2 * rng.uniform(i) - 1) * bound;
    a.copy_from(Tensor::from(values, a.shape()));
    b.fill(0);
  }

  Var add_to_output(const nn::EditContext& e, const Var& x, const Var& y) const override {
    return ops::low_rank(y, dropped(e, x), A_, B_, scale_, target_.begin());
  }
  void merge(const nn::Site&, const Tensor& weight) const override;
  std::vector<nn::Trainable> trainables() const override {
    return {{target_.label() + ".lora_A", A_}, {target_.label() + ".lora_B", B_}};
  }

  const nn::Target& target() const { return target_; }
  const Var& A() const { return A_; }
  const Var& B() const { return B_; }
  double scale() const { return scale_; }
  int64_t rank() const { return rank_; }

 private:
  int64_t in_features() const { return target_.site->shape[1]; }
  Var dropped(const nn::EditContext& e, const Var& x) const {
    if (!e.run.training || dropout_ == 0) return x;
    const uint64_t key = mix_keys(mix_keys(e.run.seed, e.run.step), hash_name(target_.label()));
    return ops::dropout(x, dropout_, key, e.run.first_row);
  }

  nn::Target target_;
  int64_t rank_;
  double scale_, dropout_;
  uint64_t key_;
  Var A_, B_;
};

}  // namespace molt::peft

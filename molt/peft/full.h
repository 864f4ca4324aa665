// Full fine-tuning, and training from scratch: every parameter of the base trains. Also partial tuning: those named.
#pragma once

#include <string>
#include <vector>

#include "molt/nn/method.h"

namespace molt::peft {

class Full final : public nn::Method {
 public:
  /// `train`: sites to train whole; empty: all of the model.
  explicit Full(std::vector<std::string> train = {}) : train_(std::move(train)) {}

  std::string name() const override { return "full"; }
  void declare(const nn::SiteTable& sites, nn::ParameterTable& parameters) override;
  void attach(const nn::SiteTable&) override {}
  void bind(nn::EditSet&) const override {}
  std::vector<nn::Trainable> base_trainables() const override;
  void after_step() override;
  std::vector<std::pair<std::string, Tensor>> state() const override;
  void load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) override;
  int64_t trainable_count() const override;
  Json config_json() const override;
  std::string coverage() const override;

 private:
  std::vector<std::string> train_;
  std::vector<nn::Parameter*> parameters_;
};

}  // namespace molt::peft

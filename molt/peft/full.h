// Full fine-tuning, and training from scratch: every parameter of the base trains. Also partial tuning: those named.
#pragma once

#include <string>
#include <vector>

#include "molt/peft/configured.h"

namespace molt::peft {

struct FullConfig {
  static constexpr const char* kName = "full";
  static constexpr const char* kSummary = "everything, or the parts that are named (partial tuning)";
  std::vector<std::string> train = {};

  template <class V>
  void visit(V& v) {
    v.field("train", train, "sites to train whole (default: all of the model)");
  }
};

class Full final : public Configured<FullConfig> {
 public:
  explicit Full(FullConfig config = {}) : Configured(std::move(config)) {}

  void declare(const nn::SiteTable& sites, nn::ParameterTable& parameters) override;
  void attach(const nn::SiteTable&) override {}
  void bind(nn::EditSet&) const override {}
  std::vector<nn::Trainable> base_trainables() const override;
  void after_step() override;
  std::vector<std::pair<std::string, Tensor>> state() const override;
  void load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) override;
  int64_t trainable_count() const override;
  std::string coverage() const override;

 private:
  std::vector<nn::Parameter*> parameters_;
};

}  // namespace molt::peft

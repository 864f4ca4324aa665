// Methods with a learning rate and a weight decay of their own: what each step makes of them, through the trainer.
#include <cmath>
#include <map>

#include "tests/train/recipes.h"

namespace molt::train {
namespace {

/// Every trainable before and after one step, where nothing warms up, decays or is clipped unless the methods say so.
struct Step {
  std::map<std::string, std::vector<double>> before, after;
};
Step one_step(const std::vector<MakeMethod>& methods) {
  const TunedModel tuned("tied_small", Dtype::kF64, methods);
  molt::testing::disturb(tuned, 1);
  const auto values = [&] {
    std::map<std::string, std::vector<double>> all;
    for (const nn::Trainable& t : tuned.trainables()) all[t.name] = t.var.value().values();
    return all;
  };
  TrainConfig config;
  config.max_steps = 1;
  config.learning_rate = 0.02;
  config.schedule.lr_scheduler_type = "constant";
  Data data;
  Step step{values(), {}};
  Trainer(tuned.model(), tuned.methods(), data.stream, config, 3, nullptr, "", {}).run();
  step.after = values();
  return step;
}

MakeMethod rated(const MakeMethod& make, const nn::Rates& rates) {
  return [=](Dtype dtype) {
    auto method = make(dtype);
    method->rates = rates;
    return method;
  };
}

// Adam's first step is the learning rate, whatever the size of the gradient.
TEST(Rates, EachMethodLearnsAtItsOwn) {
  const peft::LoraConfig plus{.r = 3, .loraplus_lr_ratio = 4, .target_modules = {"in_proj"}};
  const Step step =
      one_step({rated(molt::testing::with<peft::Lora>(plus), {.learning_rate = 0.003}),
                rated(molt::testing::with<peft::Residual>({}), {.learning_rate = 0.5}), lora_on({"out_proj"})});
  std::map<std::string, int> seen;
  for (const auto& [name, before] : step.before) {
    const bool own = name.find("in_proj.lora_") != std::string::npos;
    const std::string kind = name.find("residual") != std::string::npos ? "residual"
                             : own                                      ? name.substr(name.find("lora_"))
                                                                        : "recipe's";
    const double expected = kind == "residual" ? 0.5 : kind == "lora_A" ? 0.003 : kind == "lora_B" ? 0.012 : 0.02;
    double largest = 0;
    for (size_t i = 0; i < before.size(); ++i)
      largest = std::max(largest, std::abs(step.after.at(name)[i] - before[i]));
    EXPECT_NEAR(largest / expected, 1, 1e-3) << name;  // eps beside the gradient
    ++seen[kind];
  }
  EXPECT_EQ(seen.size(), 4u);
}

// What is learnt decays, so that A_log and D go back to their pretrained values and not to zero.
TEST(Rates, AResidualDecaysToThePretrainedValue) {
  const MakeMethod residual = molt::testing::with<peft::Residual>({}), lora = lora_on({"out_proj"});
  const Step kept = one_step({residual, lora}),
             decayed = one_step({rated(residual, {.learning_rate = 0.1, .weight_decay = 0.5}), lora}),
             faster = one_step({rated(residual, {.learning_rate = 0.1}), lora});
  int residuals = 0;
  for (const auto& [name, before] : kept.before) {
    if (name.find("residual") == std::string::npos) {
      EXPECT_EQ(decayed.after.at(name), kept.after.at(name)) << name;
      continue;
    }
    ++residuals;
    for (size_t i = 0; i < before.size(); ++i)
      ASSERT_NEAR(decayed.after.at(name)[i] - faster.after.at(name)[i], -0.1 * 0.5 * before[i], 1e-12) << name;
  }
  EXPECT_EQ(residuals, 4);  // A_log and D of two layers
}

}  // namespace
}  // namespace molt::train

// Adapters of earlier tasks, for methods that go on from them: LoRA with values as if it had been trained.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "molt/peft/slora.h"
#include "tests/cases/method_case.h"

namespace molt::testing {

/// A LoRA on a model, its pairs moved away from where they started; its own draws by `seed`.
inline TunedModel trained_lora(const std::string& model, const std::vector<std::string>& targets, int64_t rank,
                               uint64_t seed, Dtype dtype = Dtype::kF32) {
  TunedModel tuned(model, dtype, {lora_on(targets, 0, rank, seed)});
  for (const nn::Trainable& t : tuned.trainables()) {
    Tensor value = t.var.value();
    value.add(random_tensor(value.shape(), ++seed, 0.05, 0, value.dtype()));
  }
  tuned.after_step();
  return tuned;
}

inline peft::EarlierAdapter as_earlier(const std::string& where, const TunedModel& tuned) {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& [name, tensor] : tuned.method().state()) tensors.emplace_back(name, tensor.clone());
  return {where, tuned.method().peft_config(), nullptr, tensors};
}

/// S-LoRA beside two of them, of ranks 2 and 3.
inline MakeMethod slora_after_two(const std::string& model, const peft::SloraConfig& config) {
  return [=](Dtype dtype) {
    static std::map<std::pair<std::string, std::vector<std::string>>, std::vector<peft::EarlierAdapter>> made;
    std::vector<peft::EarlierAdapter>& earlier = made[{model, config.target_modules}];
    if (earlier.empty()) {
      earlier.push_back(as_earlier("first", trained_lora(model, config.target_modules, 2, 41)));
      earlier.push_back(as_earlier("second", trained_lora(model, config.target_modules, 3, 42)));
    }
    return std::make_unique<peft::Slora>(config, 5, dtype, earlier);
  };
}

}  // namespace molt::testing

// LoRA adapters as peft wrote them, for tests: just the fields that the golden cases use.
#pragma once

#include <string>

#include "molt/io/adapter.h"
#include "molt/peft/lora.h"
#include "tests/cases/tuning.h"

namespace molt::testing {

inline peft::LoraConfig lora_config(const Json& config) {
  peft::LoraConfig lora;
  lora.r = config.at("r").get<int64_t>();
  lora.lora_alpha = config.at("lora_alpha").get<double>();
  lora.use_rslora = config.at("use_rslora").get<bool>();
  const Json& targets = config.at("target_modules");
  if (targets.is_string()) {
    lora.target_modules = {targets.get<std::string>()};
  } else {
    lora.target_modules = targets.get<std::vector<std::string>>();
  }
  lora.rank_pattern = config.at("rank_pattern").get<std::map<std::string, int64_t>>();
  lora.alpha_pattern = config.at("alpha_pattern").get<std::map<std::string, double>>();
  return lora;
}

inline MakeMethod make_lora(const peft::LoraConfig& config, uint64_t seed = 1) {
  return [=](Dtype dtype) { return std::make_unique<peft::Lora>(config, seed, dtype); };
}

/// The key of a LoRA trainable in peft's files: "PATH.lora_A" is "base_model.model.PATH.lora_A.weight".
inline std::string file_key(const std::string& trainable) { return "base_model.model." + trainable + ".weight"; }

}  // namespace molt::testing

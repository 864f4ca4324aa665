// Low-rank pairs in PEFT's form, whoever trained them: per site one A and one B in which all its pairs are stacked.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "molt/peft/lora.h"
#include "molt/peft/lora_adapter.h"

namespace molt::peft {

/// Pairs of one site must stand side by side.
using LoraPairs = std::vector<std::shared_ptr<LoraAdapter>>;

/// lora_A.weight and lora_B.weight (lora_embedding_A, _B) by PEFT's keys. A slice becomes rows of a whole-site B that
/// are zero elsewhere; several pairs of one site are stacked into one of their ranks' sum. Both are exact.
std::vector<std::pair<std::string, Tensor>> pairs_state(const LoraPairs& pairs, Dtype dtype);
/// The reverse. Throws UsageError for a tensor that is missing or of another shape.
void load_pairs(const LoraPairs& pairs, const std::vector<std::pair<std::string, Tensor>>& tensors);
/// adapter_config.json for what pairs_state() gives: `config` says how they were made; ranks and alphas of sites stand
/// in patterns where they differ from it. Throws UsageError for what PEFT's LoRA has no form for.
Json pairs_config(const LoraPairs& pairs, const LoraConfig& config);

}  // namespace molt::peft

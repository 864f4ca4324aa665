// Recipes for tests of the training loop, on one small model: methods with phases, with turns, with a look at the data.
#pragma once

#include "molt/train/trainer.h"
#include "tests/cases/methods.h"
#include "tests/cases/segments_source.h"

namespace molt::train {

using molt::testing::full_on;
using molt::testing::golden_dir;
using molt::testing::GoldenStream;
using molt::testing::lora_on;
using molt::testing::MakeMethod;
using molt::testing::sdt_with;
using molt::testing::SegmentsSource;
using molt::testing::TunedModel;

inline GoldenStream golden_stream() {
  return GoldenStream(io::SafetensorsFile(golden_dir("tied_small") + "/golden.safetensors"));
}

/// Six samples in batches of two: three batches an epoch, in an order of its own.
struct Data {
  explicit Data(uint64_t seed = 7)
      : stream(std::make_shared<SegmentsSource>(golden_stream()), {.batch_size = 2, .shuffle = true, .seed = seed}) {}
  data::BatchStream stream;
};

inline TrainConfig config(int64_t steps) {
  TrainConfig config;
  config.max_steps = steps;
  config.learning_rate = 0.02;
  config.schedule.warmup_steps = 1;
  config.adamw.weight_decay = 0.01;
  config.max_grad_norm = 0.5;
  return config;
}

struct Recipe {
  std::vector<MakeMethod> methods;
  TrainConfig config;
  bool evaluates = false;
};

inline Recipe lora_recipe() {
  Recipe recipe{{lora_on({"in_proj", "x_proj:B", "out_proj"}, 0.3)}, config(7)};
  recipe.config.gradient_accumulation_steps = 2;
  return recipe;
}
/// Three steps of warm-up, then five sparse ones.
inline Recipe sdt_recipe() { return {{sdt_with("a_log"), lora_on({"out_proj"}, 0.1)}, config(5)}; }

/// Rounds of two steps, which begin anew after the warm-up.
inline Recipe rolora_recipe(bool warm_up) {
  const peft::LoraConfig lora{.r = 3, .lora_dropout = 0.1, .alternate = 2, .target_modules = {"in_proj", "out_proj"}};
  Recipe recipe{{molt::testing::with<peft::Lora>(lora)}, config(7)};
  if (warm_up) recipe.methods.insert(recipe.methods.begin(), sdt_with("a_log"));
  return recipe;
}

inline Recipe xgblora_recipe() {
  const peft::XgbLoraConfig boosted{
      .rounds = 3, .lora_dropout = 0.1, .layers = 1, .target_modules = {"in_proj", "out_proj"}};
  return {{molt::testing::with<peft::XgbLora>(boosted)}, config(7)};
}
inline Recipe slora_recipe() {
  return {{molt::testing::slora_after_two("tied_small", {.r = 2, .target_modules = {"in_proj", "out_proj"}})},
          config(6)};
}

inline Recipe eva_recipe(bool warm_up, double rho = 1) {
  Recipe recipe{{molt::testing::with<peft::Lora>(
                    {.r = 3, .init_lora_weights = "eva", .eva_rho = rho, .target_modules = {"in_out"}})},
                config(6)};
  if (warm_up) recipe.methods.insert(recipe.methods.begin(), sdt_with("a_log"));
  return recipe;
}
/// Whole tensors, one of them a matrix, beside a warm-up: they have to begin anew too.
inline Recipe whole_tensors_recipe() { return {{sdt_with("a_log"), full_on({"out_proj", "D"})}, config(5)}; }
inline Recipe adalora_recipe() {
  const peft::AdaLoraConfig adalora{
      .target_r = 1, .init_r = 3, .tinit = 2, .tfinal = 2, .target_modules = {"in_proj", "out_proj"}};
  return {{sdt_with("a_log"), molt::testing::with<peft::AdaLora>(adalora)}, config(7)};
}
inline Recipe diffora_recipe() {
  return {{molt::testing::with<peft::Diffora>({.r = 2, .warmup_steps = 4})}, config(5)};
}

}  // namespace molt::train

// Methods that act in the weights: on linears and their slices, convolutions, embeddings, biases, norms.
#pragma once

#include <functional>
#include <limits>

#include "molt/peft/adalora.h"
#include "molt/peft/boft.h"
#include "molt/peft/diffora.h"
#include "molt/peft/ia3.h"
#include "molt/peft/lycoris.h"
#include "molt/peft/miss.h"
#include "molt/peft/oft.h"
#include "molt/peft/prodial.h"
#include "molt/peft/trainable_tokens.h"
#include "molt/peft/vectors.h"
#include "molt/peft/vera.h"
#include "molt/peft/xgblora.h"
#include "tests/cases/earlier.h"
#include "tests/cases/method_case.h"

namespace molt::testing {

/// Hands every case to `alone`, or to `composed` where it is to be seen beside another method as well.
inline void add_weight_methods(const std::string& model, const std::function<void(const MethodCase&)>& alone,
                               const std::function<void(const MethodCase&)>& composed) {
  using L = peft::LoraConfig;
  const std::vector<std::string> linears{"in_proj", "x_proj", "dt_proj", "out_proj"}, some{"in_proj:z", "x_proj:B"};
  const bool tied = model == "tied_small";
  auto lora_as = [&](L c) {
    c.r = 3, c.lora_alpha = 5;
    return with<peft::Lora>(c);
  };
  alone({"lora_conv", {lora_on({"conv1d"})}});
  alone({"lora_A_log", {lora_on({"A_log"})}});
  alone({"lora_embeddings", {lora_on({"embeddings", "x_proj"})}, 0, true, !tied});
  alone({"lora_plus", {lora_as({.loraplus_lr_ratio = 16, .target_modules = linears})}});
  alone({"lora_gaussian", {lora_as({.init_lora_weights = "gaussian", .target_modules = some})}});
  alone({"lora_pissa", {lora_as({.init_lora_weights = "pissa", .target_modules = {"in_proj", "out_proj"}})}});
  alone({"lora_pissa_slices", {lora_as({.init_lora_weights = "pissa_niter_4", .target_modules = some})}});
  alone({"lora_olora", {lora_as({.init_lora_weights = "olora", .target_modules = {"in_proj", "out_proj"}})}});
  alone({"lora_loftq", {lora_as({.init_lora_weights = "loftq", .target_modules = {"in_proj:x", "out_proj"}})}});
  alone({"lora_pissa_dropout",
         {lora_as({.lora_dropout = 0.3, .init_lora_weights = "pissa", .target_modules = {"out_proj"}})},
         0,
         true,
         true,
         "",
         1e9});
  // Rounds of 4 steps, so that A trains in step 4, where gradients are compared; of 1 step: B does. An embedding's A
  // starts at zero and goes first.
  for (const int64_t round : {4, 1}) {
    MethodCase turns{round == 4 ? "rolora" : "rolora_each_step",
                     {lora_as({.alternate = round,
                               .target_modules = {"in_proj:z", "x_proj:B", "out_proj", "conv1d", "embeddings"}})}};
    turns.merges = !tied;
    turns.resting = [=](const std::string& name, int64_t step) {
      const bool is_A = name.find(".lora_A") != std::string::npos,
                 embedding = name.find("embeddings") != std::string::npos, second = step / round % 2 == 1;
      return is_A == (second == embedding);
    };
    alone(turns);
  }
  composed({"dora", {lora_as({.use_dora = true, .target_modules = {"in_proj:z", "x_proj:B", "x_proj:dt"}})}});
  // tied_small's dt_proj has one input: a row of one number has no direction to train.
  alone(
      {"dora_all",
       {lora_as({.use_dora = true, .target_modules = tied ? std::vector<std::string>{"in_proj", "lm_head"} : linears})},
       0,
       true,
       !tied});
  alone({"dora_pissa", {lora_as({.use_dora = true, .init_lora_weights = "pissa", .target_modules = {"in_proj"}})}});
  alone({"dora_and_full", {lora_as({.use_dora = true, .target_modules = {"x_proj"}}), full_on({"x_proj"})}});
  composed({"bitfit", {with<peft::BitFit>({})}});
  alone({"bitfit_without", {with<peft::BitFit>({{"x_proj", "in_proj"}})}, 0, true, false});
  alone({"bitfit_and_dora",
         {with<peft::BitFit>({{"dt_proj"}}), lora_as({.use_dora = true, .target_modules = {"dt_proj"}})},
         0,
         true,
         true,
         "",
         0,
         tied ? "dt_proj.lora_" : ""});
  composed({"ln_tuning", {with<peft::LnTuning>({})}});
  composed({"ia3", {with<peft::Ia3>({{"in_proj", "x_proj", "dt_proj", "out_proj"}, {"out_proj", "x_proj"}})}});
  alone({"ia3_slices", {with<peft::Ia3>({{"in_proj:x", "x_proj:C"}})}});
  // Gradients are compared in step 4 of 8.
  MethodCase boosted{"xgblora", {with<peft::XgbLora>({.rounds = 2, .layers = 0, .target_modules = linears})}};
  boosted.resting = [](const std::string& name, int64_t step) {
    return name.find(step < 4 ? ".round1." : ".round0.") != std::string::npos;
  };
  alone(boosted);
  MethodCase drawn{
      "xgblora_layers",
      {with<peft::XgbLora>(
          {.rounds = 4, .r = 2, .lora_alpha = 3, .lora_dropout = 0.2, .layers = 1, .target_modules = some})}};
  drawn.resting = [](const std::string& name, int64_t step) {
    return name.find(".round") != std::string::npos && name.find(str(".round", step / 2, ".")) == std::string::npos;
  };
  composed(drawn);
  alone({"slora_first", {with<peft::Slora>({.r = 2, .lora_alpha = 3, .target_modules = some})}});
  MethodCase next{
      "slora",
      {slora_after_two(model, {.r = 2, .lora_alpha = 3, .target_modules = {"in_proj:z", "x_proj:B", "out_proj"}})}};
  next.start = std::numeric_limits<double>::infinity();  // at what the earlier adapters made of the model
  composed(next);
  composed({"vera", {with<peft::Vera>({.r = 6, .target_modules = linears})}});
  alone({"vera_slices", {with<peft::Vera>({.r = 6, .target_modules = some})}});
  composed({"loha", {with<peft::Loha>({.r = 2, .alpha = 3, .target_modules = linears})}});
  alone({"loha_slices", {with<peft::Loha>({.r = 2, .alpha = 3, .target_modules = some})}});
  composed({"lokr", {with<peft::Lokr>({.r = 1, .alpha = 2, .target_modules = linears})}});
  alone({"lokr_both", {with<peft::Lokr>({.r = 1, .alpha = 2, .decompose_both = true, .target_modules = linears})}});
  alone({"lokr_whole", {with<peft::Lokr>({.r = 64, .alpha = 64, .decompose_factor = 2, .target_modules = some})}});
  composed({"oft", {with<peft::Oft>({.oft_block_size = 4, .target_modules = {"in_proj", "out_proj"}})}});
  alone({"oft_exact",
         {with<peft::Oft>(
             {.r = 2, .oft_block_size = 0, .use_cayley_neumann = false, .target_modules = {"in_proj", "out_proj"}})}});
  alone({"oft_shared", {with<peft::Oft>({.oft_block_size = 2, .block_share = true, .target_modules = {"in_proj"}})}});
  composed({"boft", {with<peft::Boft>({.boft_block_size = 2, .target_modules = {"in_proj", "out_proj"}})}});
  alone({"boft_num",
         {with<peft::Boft>({.boft_block_size = 0, .boft_block_num = 2, .target_modules = {"in_proj", "out_proj"}})}});
  if (tied) {  // ten inputs have no even number of blocks of even width
    alone({"boft_butterfly",
           {with<peft::Boft>(
               {.boft_block_size = 2, .boft_n_butterfly_factor = 3, .target_modules = {"in_proj", "out_proj"}})}});
  }
  composed({"prodial", {with<peft::Prodial>({.r = 2, .lora_alpha = 3, .block_size = 5})}});
  alone(
      {"prodial_all", {with<peft::Prodial>({.r = 2, .lora_alpha = 3, .block_size = 1, .target_modules = {"mixer"}})}});
  alone({"prodial_among_others",
         {with<peft::Oft>({.oft_block_size = 2, .target_modules = {"in_proj"}}),
          with<peft::Prodial>({.r = 2, .lora_alpha = 3, .block_size = 2, .target_modules = {"in_proj"}}),
          with<peft::Ia3>({{"in_proj"}, {"in_proj"}}), lora_on({"in_proj:z"})}});
  const peft::DifforaConfig diffora{.r = 2, .lora_alpha = 3, .keep = 0.5, .warmup_steps = 3};
  alone({"diffora_warmup", {with<peft::Diffora>(diffora)}, 0, false, false});
  composed({.name = "diffora", .methods = {with<peft::Diffora>(diffora)}, .phase = 1});
  alone({.name = "diffora_slices",
         .methods = {with<peft::Diffora>(
             {.r = 2, .lora_alpha = 3, .keep = 1, .warmup_steps = 3, .target_modules = {"in_proj:z", "x_proj:B"}})},
         .phase = 1});
  alone({.name = "diffora_all_share",
         .methods = {with<peft::Diffora>({.r = 2, .lora_alpha = 3, .keep = 0, .warmup_steps = 3})},
         .phase = 1});
  alone({"lora_eva", {lora_as({.init_lora_weights = "eva", .target_modules = linears})}});
  alone({"lora_eva_rho", {lora_as({.init_lora_weights = "eva", .eva_rho = 2, .target_modules = linears})}});
  composed({"miss", {with<peft::Miss>({.r = 3, .target_modules = {"in_proj", "x_proj", "out_proj"}})}});
  alone({"miss_slices", {with<peft::Miss>({.r = 4, .target_modules = some})}});
  composed({"adalora", {with<peft::AdaLora>({.target_r = 1, .init_r = 2, .target_modules = linears})}});
  composed({"trainable_tokens",
            {with<peft::TrainableTokens>({.token_indices = {"3", "17", "5"}})},
            0,
            true,
            true,
            "",
            tied ? 1e-6 : 0});  // a tied head's rows are multiplied apart from the others
  alone({"many",
         {with<peft::Oft>({.oft_block_size = 4, .target_modules = {"in_proj"}}),
          lora_as({.use_dora = true, .target_modules = {"in_proj"}}), with<peft::Ia3>({{"in_proj"}}),
          with<peft::Ia3>({{"out_proj"}, {"out_proj"}}),
          with<peft::Oft>({.oft_block_size = 2, .target_modules = {"out_proj"}}),
          with<peft::Miss>({.r = 2, .target_modules = {"in_proj"}})}});
}

}  // namespace molt::testing

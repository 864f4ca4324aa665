// Every method in every form worth telling apart, and combinations: what the laws are checked on.
#pragma once

#include "tests/cases/ssm_methods.h"
#include "tests/cases/weight_methods.h"

namespace molt::testing {

inline std::vector<MethodCase> method_cases() {
  std::vector<MethodCase> cases;
  for (const std::string model : {"tied_small", "untied_odd"}) {
    auto add = [&](MethodCase c) {
      c.model = model;
      c.name = model + "_" + c.name;
      cases.push_back(std::move(c));
    };
    // A method in its last phase, alone and after LoRA on the same and other sites.
    auto add_composed = [&](const MethodCase& c) {
      add(c);
      MethodCase both = c;
      both.name += "_and_lora";
      both.methods.insert(both.methods.begin(), lora_on({"in_proj", "x_proj:C", "out_proj"}));
      add(both);
    };
    // Every linear alone, every slice alone.
    for (const std::string target : {"in_proj", "x_proj", "dt_proj", "out_proj"})
      add({"lora_" + target, {lora_on({target})}});
    for (const auto& [site, slice] :
         {std::pair{"in_proj", "x"}, {"in_proj", "z"}, {"x_proj", "dt"}, {"x_proj", "B"}, {"x_proj", "C"}})
      add({std::string("lora_") + site + "_" + slice, {lora_on({std::string(site) + ":" + slice})}});
    // A tied head shares its weight with the look-up, so a change of the head alone has no weight to go into.
    add({"lora_lm_head", {lora_on({"lm_head"})}, 0, true, model != "tied_small"});
    add({"lora_all_linear", {lora_on({"all-linear"})}});
    add({"lora_slices_together", {lora_on({"x_proj:C", "x_proj:B", "in_proj:x", "out_proj"})}});
    add({"lora_dropout", {lora_on({"in_proj", "x_proj:dt"}, 0.4)}});
    add({"lora_one_layer", {lora_on({".*layers\\.1\\.mixer\\.(in_proj|x_proj)"})}});
    add({"sdt_warmup", {sdt_with("a_log")}, 0, false, false});
    add({"sdt_warmup_ssm", {sdt_with("ssm")}, 0, false, false});
    add({"sdt_sparse", {sdt_with("a_log")}, 1});
    add({"sdt_sparse_after_ssm", {sdt_with("ssm", "a_bar")}, 1});
    // SDT-P and SDT+. Pruning changes the model on purpose; single states cannot be merged.
    constexpr double kElsewhere = std::numeric_limits<double>::infinity();
    const peft::SdtConfig base{.freeze_channels = 0.5, .freeze_states = 0.5, .warmup_steps = 3};
    peft::SdtConfig channels = base, plus = base, all = base;
    channels.prune_channels = all.prune_channels = 0.25;
    all.prune_states = 0.25;
    plus.projections = all.projections = {"out_proj", "in_proj:x", "in_proj:z"};
    add_composed(
        {.name = "sdt_pruned_channels", .methods = {with<peft::Sdt>(channels)}, .phase = 1, .start = kElsewhere});
    add_composed({.name = "sdt_plus", .methods = {with<peft::Sdt>(plus)}, .phase = 1});
    add_composed(
        {.name = "sdt_p_plus", .methods = {with<peft::Sdt>(all)}, .phase = 1, .merges = false, .start = kElsewhere});
    add({"full", {full_on({})}});
    add({"full_some", {full_on({"A_log", "conv1d", "dt_proj", "norm_f.weight"})}});
    add({"sdt_and_lora_warmup", {sdt_with("a_log"), lora_on({"out_proj"})}, 0, false, false});
    add({"sdt_and_lora_sparse", {sdt_with("a_log"), lora_on({"out_proj"})}, 1});
    add({"sdt_and_lora_on_one_site", {lora_on({"x_proj"}), sdt_with("a_log")}, 1});
    add({"lora_and_lora", {lora_on({"in_proj"}), lora_on({"x_proj:B"}, 0, 2, 9)}});
    add({"full_and_lora", {full_on({"D", "conv1d"}), lora_on({"in_proj", "out_proj"})}});
    add({"full_and_lora_on_one_site", {full_on({"x_proj"}), lora_on({"x_proj"})}});
    add_weight_methods(model, add, add_composed);
    for (const MethodCase& c : ssm_method_cases()) add_composed(c);
  }
  return cases;
}

/// Moves every trainable away from where it started, by draws keyed by its place and `seed`.
inline void disturb(const TunedModel& tuned, uint64_t seed, double scale = 0.05) {
  for (const nn::Trainable& t : tuned.trainables()) {
    Tensor value = t.var.value();
    value.add(random_tensor(value.shape(), ++seed, scale, 0, value.dtype()));
  }
  tuned.after_step();
}

/// A case's model in its phase; earlier phases were gone through with disturbed trainables, so that a selection has
/// something to select by.
inline TunedModel begin(const MethodCase& c, Dtype dtype) {
  TunedModel tuned(c.model, dtype, c.methods);
  for (int phase = 1; phase <= c.phase; ++phase) {
    disturb(tuned, 77);
    tuned.begin_phase(phase);
  }
  return tuned;
}

}  // namespace molt::testing

// Methods that act before, in and behind the scan.
#pragma once

#include <limits>

#include "molt/peft/additional_scan.h"
#include "molt/peft/initial_state.h"
#include "molt/peft/prefix.h"
#include "molt/peft/prompt.h"
#include "molt/peft/residual.h"
#include "molt/peft/state_offset.h"
#include "tests/cases/method_case.h"

namespace molt::testing {

/// Methods of what stands before, in and behind the scan.
inline std::vector<MethodCase> ssm_method_cases() {
  constexpr double kElsewhere = std::numeric_limits<double>::infinity();
  // Three further columns change how the scan's sums are grouped.
  constexpr double kRegrouped = 1e-6;
  const MakeMethod states = with<peft::InitialState>({.target_modules = {"h0", "conv0"}});
  const MakeMethod prefix = with<peft::PrefixTuning>({.num_virtual_tokens = 3});
  const MakeMethod prompt = with<peft::PromptTuning>({.num_virtual_tokens = 3});
  const MakeMethod more = with<peft::AdditionalScan>({.extra_states = 3});
  const MakeMethod offset = with<peft::StateOffset>({});
  auto learned = [](const char* name, const MakeMethod& make, double start) {
    return MethodCase{.name = name, .methods = {make}, .merges = false, .start = start};
  };
  std::vector<MethodCase> cases{
      learned("initial_state", with<peft::InitialState>({}), 0),
      learned("initial_states", states, 0),
      learned("initial_states_network",
              with<peft::InitialState>({.target_modules = {"h0", "conv0"}, .encoder_hidden_size = 5}), 0),
      learned("prefix", prefix, kElsewhere),
      learned("prefix_network",
              with<peft::PrefixTuning>({.num_virtual_tokens = 3, .prefix_projection = true, .encoder_hidden_size = 5}),
              kElsewhere),
      learned("prompt", prompt, kElsewhere),
      learned("prompt_sampled",
              with<peft::PromptTuning>({.num_virtual_tokens = 2, .prompt_tuning_init = "SAMPLE_VOCAB"}), kElsewhere),
      learned("additional_scan", more, kRegrouped),
      learned("state_offset", offset, 0),
      learned("state_offset_r2", with<peft::StateOffset>({.r = 2}), 0),
      learned("output_offset", with<peft::StateOffset>({.offset = "y"}), 0),
      learned("output_offset_r2", with<peft::StateOffset>({.offset = "y", .r = 2}), 0),
      {.name = "residual",
       .methods = {with<peft::Residual>({.target_modules = {"A_log", "D", "conv1d", "norm.weight"}})}},
  };
  cases.push_back({.name = "before_in_and_behind_the_scan",
                   .methods = {more, states, prefix, prompt, offset, with<peft::StateOffset>({.offset = "y"})},
                   .merges = false,
                   .start = kElsewhere});
  cases.push_back({.name = "sdt_and_further_states",
                   .methods = {more, sdt_with("a_log"), states, offset},
                   .phase = 1,
                   .merges = false,
                   .start = kRegrouped});
  return cases;
}

}  // namespace molt::testing

// A method, or several, in one form: what the laws are checked on; and the forms that most cases are made of.
#pragma once

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "molt/peft/full.h"
#include "molt/peft/lora.h"
#include "molt/peft/sdt.h"
#include "tests/cases/tuning.h"

namespace molt::testing {

struct MethodCase {
  std::string name;
  std::vector<MakeMethod> methods;
  int phase = 0;
  bool last_phase = true;
  bool merges = true;
  std::string model = "tied_small";
  /// How far attaching may move the logits, relative to them. Where it is not 0 the method's documentation says why;
  /// infinity: it starts elsewhere on purpose.
  double start = 0;
  /// Trainables whose names hold this do not matter here, for a reason given where the case is.
  std::string idle = "";
  /// For methods that train by turns: whether a trainable rests in a step of its phase, so that no gradient is due.
  std::function<bool(const std::string& name, int64_t phase_step)> resting = {};

  bool rests(const std::string& name, int64_t phase_step) const { return resting && resting(name, phase_step); }
};

inline void PrintTo(const MethodCase& c, std::ostream* out) { *out << c.name; }

inline MakeMethod lora_on(std::vector<std::string> targets, double dropout = 0, int64_t rank = 3, uint64_t seed = 5) {
  const peft::LoraConfig config{
      .r = rank, .lora_alpha = 6, .lora_dropout = dropout, .target_modules = std::move(targets)};
  return [=](Dtype dtype) { return std::make_unique<peft::Lora>(config, seed, dtype); };
}

inline MakeMethod sdt_with(const std::string& warmup, const std::string& criterion = "a_log") {
  const peft::SdtConfig config{
      .freeze_channels = 0.75, .freeze_states = 0.5, .warmup_steps = 3, .warmup = warmup, .criterion = criterion};
  return [=](Dtype dtype) { return std::make_unique<peft::Sdt>(config, dtype); };
}

inline MakeMethod full_on(const std::vector<std::string>& train) {
  return [=](Dtype) { return std::make_unique<peft::Full>(peft::FullConfig{train}); };
}

/// A method made from (Config, seed, dtype) or (Config, dtype).
template <class M>
MakeMethod with(const typename M::Config& config, uint64_t seed = 5) {
  return [=](Dtype dtype) -> std::unique_ptr<nn::Method> {
    if constexpr (std::is_constructible_v<M, typename M::Config, uint64_t, Dtype>) {
      return std::make_unique<M>(config, seed, dtype);
    } else {
      return std::make_unique<M>(config, dtype);
    }
  };
}

}  // namespace molt::testing

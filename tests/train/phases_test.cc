// Methods beside one with a warm-up: what that phase did to them is forgotten, and what they plan is for the training
// behind it.
#include <functional>

#include "tests/train/recipes.h"

namespace molt::train {
namespace {

/// Calls `look` when a phase has begun, with its number, and after each step.
void run_looking(const Recipe& recipe, const TunedModel& tuned, const std::function<void(int phase)>& look) {
  Data data;
  TrainHooks hooks;
  int phase = -1;
  hooks.on_note = [&](const NoteRecord& note) {
    if (note.text.rfind("phase", 0) == 0) look(++phase);
  };
  hooks.on_step = [&](const StepRecord&, int64_t) { look(phase); };
  Trainer(tuned.model(), tuned.methods(), data.stream, recipe.config, 3, nullptr, "", hooks).run();
  EXPECT_EQ(phase, 1);
}

// What the warm-up did to whole tensors of the base is forgotten, in their values and in what products read.
TEST(Phases, WholeTensorsBeginAnewBehindAWarmUp) {
  const TunedModel tuned("tied_small", Dtype::kF32, whole_tensors_recipe().methods);
  const GoldenStream probe = golden_stream();
  const std::vector<double> start = tuned.base_logits(probe).values();
  std::vector<std::vector<double>> seen[2];  // base logits by phase: where it begins, then after each step
  run_looking(whole_tensors_recipe(), tuned,
              [&](int phase) { seen[phase].push_back(tuned.base_logits(probe).values()); });
  ASSERT_EQ(seen[0].size(), 4u);
  ASSERT_EQ(seen[1].size(), 6u);
  EXPECT_NE(seen[0].back(), start);
  EXPECT_EQ(seen[1].front(), start);
  EXPECT_NE(seen[1].back(), start);
}

// AdaLoRA's budget falls over the steps of the training that counts; three steps of warm-up, which leave no room
// between its tinit and tfinal, are no reason to refuse.
TEST(Phases, AdaLoraPrunesBehindTheWarmUpOnly) {
  const TunedModel tuned("tied_small", Dtype::kF32, adalora_recipe().methods);
  const auto off = [&] {
    int64_t count = 0;
    for (const auto& [name, tensor] : tuned.method(1).state()) {
      if (name.find("adalora_kept") == std::string::npos) continue;
      for (const double kept : tensor.values()) count += kept == 0;
    }
    return count;
  };
  std::vector<int64_t> seen[2];
  run_looking(adalora_recipe(), tuned, [&](int phase) { seen[phase].push_back(off()); });
  EXPECT_EQ(seen[0], (std::vector<int64_t>(4, 0)));
  EXPECT_EQ(seen[1].front(), 0);
  EXPECT_EQ(seen[1].back(), 2 * 2 * (3 - 1));  // two targets in two layers
}

}  // namespace
}  // namespace molt::train

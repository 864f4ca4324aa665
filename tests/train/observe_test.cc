// What methods do between phases: look at batches for initial values (EVA), choose modules (DiffoRA).
#include <algorithm>
#include <map>

#include "molt/train/trainer.h"
#include "tests/cases/methods.h"
#include "tests/cases/segments_source.h"

namespace molt::train {
namespace {

using molt::testing::golden_dir;
using molt::testing::GoldenStream;
using molt::testing::sdt_with;
using molt::testing::TunedModel;

TEST(Observing, MethodsSeeTheFirstBatchesBeforeEachPhase) {
  const auto eva = molt::testing::with<peft::Lora>({.r = 3, .init_lora_weights = "eva", .target_modules = {"in_out"}});
  const TunedModel tuned("tied_small", Dtype::kF32, {sdt_with("a_log"), eva});
  std::map<std::string, std::vector<double>> drawn;
  for (const nn::Trainable& t : tuned.trainables()) drawn[t.name] = t.var.value().values();
  const GoldenStream golden{io::SafetensorsFile(golden_dir("tied_small") + "/golden.safetensors")};
  data::BatchStream stream(std::make_shared<molt::testing::SegmentsSource>(golden), {.batch_size = 2, .seed = 7});
  TrainHooks hooks;
  std::vector<std::string> notes;
  hooks.on_note = [&](const NoteRecord& note) { notes.push_back(note.text); };
  TrainConfig still;
  still.max_steps = 2;
  still.learning_rate = 1e-30;  // nothing moves: what stands there at the end is what it started from
  Trainer(tuned.model(), tuned.methods(), stream, still, 3, nullptr, "recipe", hooks).run();
  int64_t changed = 0;
  for (const nn::Trainable& t : tuned.trainables()) {
    if (t.name.find("lora_A") == std::string::npos) continue;
    const std::vector<double> now = t.var.value().values();
    changed += now != drawn[t.name];
    const size_t width = static_cast<size_t>(t.var.value().cols());
    for (size_t k = 0; k < 3; ++k) {
      double square = 0;
      for (size_t i = 0; i < width; ++i) square += now[k * width + i] * now[k * width + i];
      EXPECT_NEAR(square, 1, 1e-5) << t.name;
    }
  }
  EXPECT_EQ(changed, 4);
  // The phases of SDT, each with what was looked at before it.
  EXPECT_EQ(std::count_if(notes.begin(), notes.end(),
                          [](const std::string& n) { return n == "lora: initial values from 3 batches"; }),
            2);
}

/// As the warm-up leaves weights, so they are chosen; those that share move together.
TEST(Diffora, KeepsTheModulesOfLargestWeight) {
  const TunedModel tuned("tied_small", Dtype::kF64, {molt::testing::with<peft::Diffora>({.r = 2, .warmup_steps = 4})});
  auto& method = dynamic_cast<peft::Diffora&>(tuned.method());
  EXPECT_TRUE(method.kept().empty());
  for (const nn::Trainable& t : tuned.trainables()) {
    if (t.name.find("diffora_weight") == std::string::npos) continue;
    Tensor w = t.var.value();
    // Layer 1's in_proj and out_proj, layer 0's x_proj.
    w.fill((t.name.find("layers.1") != std::string::npos) == (t.name.find("x_proj") == std::string::npos) ? 0.3 : -0.3);
  }
  method.begin_phase(1);
  EXPECT_EQ(method.kept(),
            (std::vector<std::string>{"backbone.layers.1.mixer.in_proj", "backbone.layers.0.mixer.x_proj",
                                      "backbone.layers.1.mixer.out_proj"}));
}

}  // namespace
}  // namespace molt::train

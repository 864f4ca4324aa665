// Methods that train by turns: what rests in a step gets no gradient and no update, so that its value, its moments and
// its count of steps stay to the bit.
#include <functional>
#include <map>

#include "molt/train/checkpoint.h"
#include "molt/train/trainer.h"
#include "tests/cases/methods.h"
#include "tests/cases/segments_source.h"
#include "tests/train/temporary.h"

namespace molt::train {
namespace {

using molt::testing::MakeMethod;
using molt::testing::TunedModel;

constexpr int64_t kSteps = 7, kWarmUp = 3;

/// Runs a method, behind a warm-up of SDT if asked for. `rests(name, step of the phase)` of those of its trainables
/// whose name holds `own`. Returns how many steps the optimizer counted for each, in the last phase.
std::map<std::string, double> check_turns(const MakeMethod& method, bool warm_up, const std::string& own,
                                          const std::function<bool(const std::string&, int64_t)>& rests) {
  std::vector<MakeMethod> methods{method};
  if (warm_up) methods.insert(methods.begin(), molt::testing::sdt_with("a_log"));
  const TunedModel tuned("tied_small", Dtype::kF32, methods);
  const molt::testing::GoldenStream stream{
      io::SafetensorsFile(molt::testing::golden_dir("tied_small") + "/golden.safetensors")};
  data::BatchStream batches(std::make_shared<molt::testing::SegmentsSource>(stream), {.batch_size = 2, .seed = 7});
  TrainConfig config;
  config.max_steps = kSteps;
  config.learning_rate = 0.02;
  config.adamw.weight_decay = 0.01;  // would move what rests, were it a step
  const TemporaryDirectory directory;
  const RunDirectory run = RunDirectory::create(directory / "run", "recipe");
  auto snapshot = [&] {
    std::map<std::string, std::vector<double>> values;
    for (const nn::Trainable& t : tuned.trainables()) {
      if (t.name.find(own) != std::string::npos) values[t.name] = t.var.value().values();
    }
    return values;
  };
  auto before = snapshot();
  EXPECT_FALSE(before.empty());
  TrainHooks hooks;
  hooks.on_step = [&](const StepRecord& record, int64_t) {
    const bool second = warm_up && record.step > kWarmUp;
    const int64_t step = record.step - 1 - (second ? kWarmUp : 0);
    const auto after = snapshot();
    for (const auto& [name, values] : after) {
      if (second && step == 0) continue;  // a new phase: it had gone back to its initial values
      EXPECT_EQ(values == before.at(name), rests(name, step)) << name << " in step " << record.step;
    }
    before = after;
  };
  Trainer(tuned.model(), tuned.methods(), batches, config, 3, &run, "recipe", hooks).run();
  std::map<std::string, double> steps;
  const Checkpoint last = read_last_checkpoint(run).value();
  for (const auto& [name, tensor] : last.tensors) {
    const bool counts = name.rfind("optimizer/", 0) == 0 && name.substr(name.rfind('.')) == ".step";
    if (counts && name.find(own) != std::string::npos) steps[name] = tensor.values()[0];
  }
  EXPECT_EQ(steps.size(), before.size());
  return steps;
}

TEST(Turns, RoloraLeavesTheFactorThatRests) {
  for (const bool warm_up : {false, true}) {
    const peft::LoraConfig lora{.r = 3, .lora_dropout = 0.1, .alternate = 2, .target_modules = {"in_proj", "out_proj"}};
    const auto steps = check_turns(molt::testing::with<peft::Lora>(lora), warm_up, ".lora_",
                                   [](const std::string& name, int64_t step) {
                                     return (name.find(".lora_A") != std::string::npos) == (step / 2 % 2 == 0);
                                   });
    EXPECT_EQ(steps.size(), 8u);
    // Of seven steps B has 1, 2, 5, 6 and A 3, 4, 7, in whatever phase they are.
    for (const auto& [name, count] : steps) EXPECT_EQ(count, name.find(".lora_A") != std::string::npos ? 3 : 4) << name;
  }
}

TEST(Turns, XgbloraFitsOneRoundAfterTheOther) {
  const peft::XgbLoraConfig boosted{.rounds = 3, .layers = 0, .target_modules = {"in_proj"}};
  const auto steps = check_turns(
      molt::testing::with<peft::XgbLora>(boosted), false, ".round", [](const std::string& name, int64_t step) {
        const bool now = name.find(str(".round", peft::XgbLora::round_of(step, kSteps, 3), ".")) != std::string::npos;
        // A has no gradient but zero in a round's first step, for B is zero: there it moves by its decay.
        return !now;
      });
  // Seven steps: 3, 2, 2.
  for (const auto& [name, count] : steps) EXPECT_EQ(count, name.find(".round0.") != std::string::npos ? 3 : 2) << name;
}

TEST(Turns, SloraLeavesEarlierDirections) {
  auto directions = [](const nn::Method& method) {
    std::map<std::string, std::vector<double>> out;
    for (const auto& [name, tensor] : method.state()) {
      if (name.find(".slora_A") != std::string::npos || name.find(".slora_B") != std::string::npos)
        out[name] = tensor.values();
    }
    return out;
  };
  const MakeMethod make = molt::testing::slora_after_two("tied_small", {.target_modules = {"in_proj", "out_proj"}});
  const auto before = directions(*TunedModel("tied_small", Dtype::kF32, {make}).methods()[0]);
  EXPECT_EQ(before.size(), 8u);
  const TunedModel tuned("tied_small", Dtype::kF32, {make});
  const molt::testing::GoldenStream stream{
      io::SafetensorsFile(molt::testing::golden_dir("tied_small") + "/golden.safetensors")};
  data::BatchStream batches(std::make_shared<molt::testing::SegmentsSource>(stream), {.batch_size = 2, .seed = 7});
  TrainConfig config;
  config.max_steps = 4;
  config.learning_rate = 0.02;
  std::map<std::string, std::vector<double>> lengths;
  for (const nn::Trainable& t : tuned.trainables()) lengths[t.name] = t.var.value().values();
  Trainer(tuned.model(), tuned.methods(), batches, config, 3, nullptr, "", {}).run();
  EXPECT_EQ(directions(tuned.method()), before);
  for (const nn::Trainable& t : tuned.trainables()) EXPECT_NE(t.var.value().values(), lengths.at(t.name)) << t.name;
}

}  // namespace
}  // namespace molt::train

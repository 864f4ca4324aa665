// Ten steps of training against transformers, peft and torch's AdamW: every loss, every learning rate and norm, and the
// weights at the end; with LoRA and whole, by hand and through train::Trainer.
#include <cmath>

#include "molt/base/file.h"
#include "molt/optim/adamw.h"
#include "molt/optim/clip.h"
#include "molt/optim/schedule.h"
#include "molt/peft/full.h"
#include "molt/train/trainer.h"
#include "tests/cases/peft_files.h"
#include "tests/cases/segments_source.h"

namespace molt {
namespace {

using testing::file_key;
using testing::golden_dir;
using testing::GoldenStream;
using testing::relative_error;
using testing::TunedModel;

/// What a golden run did, step by step.
struct Course {
  std::vector<double> losses, rates, norms;
};

class TrainingGolden : public ::testing::TestWithParam<std::tuple<const char*, const char*>> {
 protected:
  std::string model() const { return std::get<0>(GetParam()); }
  std::string directory() const { return golden_dir(model() + "/" + std::get<1>(GetParam())); }
  bool full() const { return std::string(std::get<1>(GetParam())) == "train_full"; }

  const Json golden_json = read_json_file(directory() + "/golden.json");
  const Json settings = golden_json.at("settings");
  const io::SafetensorsFile golden{directory() + "/golden.safetensors"};
  const GoldenStream stream{io::SafetensorsFile(golden_dir(model()) + "/golden.safetensors")};
  const Course expected{golden_json.at("losses_f64").get<std::vector<double>>(),
                        golden_json.at("learning_rates").get<std::vector<double>>(),
                        golden_json.at("gradient_norms_f64").get<std::vector<double>>()};

  TunedModel start(Dtype dtype) const {
    if (full()) return TunedModel(model(), dtype, {[](Dtype) { return std::make_unique<peft::Full>(); }});
    const io::AdapterFiles adapter = io::read_adapter(directory() + "/adapter_init");
    TunedModel tuned(model(), dtype, {testing::make_lora(testing::lora_config(adapter.config))});
    tuned.method().load_state(adapter.tensors);
    return tuned;
  }

  optim::AdamWConfig adamw() const {
    return {.beta1 = settings.at("betas").at(0).get<double>(),
            .beta2 = settings.at("betas").at(1).get<double>(),
            .eps = settings.at("eps").get<double>(),
            .weight_decay = settings.at("weight_decay").get<double>()};
  }
  optim::ScheduleConfig schedule() const {
    optim::ScheduleConfig config;
    config.lr_scheduler_type = settings.at("schedule").get<std::string>();
    config.warmup_steps = settings.at("warmup").get<int64_t>();
    return config;
  }
  double clip() const { return settings.at("clip").is_null() ? 0 : settings.at("clip").get<double>(); }
  int64_t steps() const { return static_cast<int64_t>(expected.losses.size()); }

  void expect_course(const Course& course, double tolerance) const {
    ASSERT_EQ(course.losses.size(), expected.losses.size());
    for (size_t k = 0; k < expected.losses.size(); ++k) {
      EXPECT_NEAR(course.losses[k] / expected.losses[k], 1, tolerance) << "loss of step " << k;
      EXPECT_NEAR(course.norms[k] / expected.norms[k], 1, 10 * tolerance) << "gradient norm of step " << k;
      EXPECT_NEAR(course.rates[k], expected.rates[k], 1e-15) << "learning rate of step " << k;
    }
  }

  void expect_final(const TunedModel& tuned, double tolerance) const {
    size_t seen = 0;
    for (const nn::Trainable& t : tuned.trainables()) {
      const std::string key = "final." + (full() ? t.name : file_key(t.name));
      ASSERT_TRUE(golden.has(key)) << key;
      EXPECT_LT(relative_error(t.var.value(), golden.tensor(key)), tolerance) << t.name;
      ++seen;
    }
    EXPECT_EQ(seen, golden.names().size());
  }
};

// f64: equal up to the order of sums, which ten steps of Adam enlarge (its first steps divide gradients by their own
// size, so an entry near zero turns rounding into a whole step). f32: ten steps, each with gradients good to 1e-5; the
// peer's own f32 run is off by as much. Weights are stored rounded to f32.
constexpr double kLossDouble = 1e-9, kLossFloat = 1e-5, kFinalDouble = 1e-7, kFinalFloat = 1e-4;

TEST_P(TrainingGolden, ByHand) {
  for (const Dtype dtype : {Dtype::kF64, Dtype::kF32}) {
    const bool wide = dtype == Dtype::kF64;
    const TunedModel tuned = start(dtype);
    optim::AdamW optimizer(tuned.parameters(), adamw());
    const optim::Schedule factors(schedule(), steps());
    Course course;
    for (int64_t k = 0; k < steps(); ++k) {
      const nn::LossSum loss = tuned.loss(stream);
      backward(loss.sum);
      const double scale = 1 / static_cast<double>(loss.count);
      course.losses.push_back(loss.sum.value().values()[0] * scale);
      course.norms.push_back(optim::grad_norm(optimizer.parameters()) * scale);
      course.rates.push_back(settings.at("lr").get<double>() * factors.factor(k));
      optimizer.step(course.rates.back(), scale * optim::clip_scale(course.norms.back(), clip()));
      tuned.after_step();
    }
    expect_course(course, wide ? kLossDouble : kLossFloat);
    expect_final(tuned, wide ? kFinalDouble : kFinalFloat);
  }
}

TEST_P(TrainingGolden, ThroughTheTrainer) {
  for (const bool recompute : {false, true}) {
    const TunedModel tuned = start(Dtype::kF64);
    // One batch is all segments in their order.
    data::BatchStream batches(std::make_shared<testing::SegmentsSource>(stream),
                              {.batch_size = stream.segments.count(), .shuffle = false});
    ASSERT_EQ(batches.steps_per_epoch(), 1);
    train::TrainConfig config;
    config.num_train_epochs = static_cast<double>(steps());
    config.learning_rate = settings.at("lr").get<double>();
    config.schedule = schedule();
    config.adamw = adamw();
    config.max_grad_norm = clip();
    config.recompute = recompute;
    Course course;
    train::TrainHooks hooks;
    hooks.on_step = [&](const train::StepRecord& record, int64_t total) {
      EXPECT_EQ(total, steps());
      EXPECT_EQ(record.tokens, stream.segments.tokens());
      course.losses.push_back(record.loss);
      course.norms.push_back(record.grad_norm);
      course.rates.push_back(record.lr);
    };
    train::Trainer trainer(tuned.model(), tuned.methods(), batches, config, 1, {}, "", hooks);
    const train::TrainResult result = trainer.run();
    EXPECT_TRUE(result.finished);
    EXPECT_EQ(result.steps, steps());
    expect_course(course, kLossDouble);
    expect_final(tuned, kFinalDouble);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, TrainingGolden,
    ::testing::Combine(::testing::Values("tied_small", "untied_odd"),
                       ::testing::Values("train_lora", "train_honest", "train_recipe", "train_full")),
    [](const auto& info) { return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param); });

}  // namespace
}  // namespace molt

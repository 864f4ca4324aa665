#include "molt/optim/schedule.h"

#include <gtest/gtest.h>

#include "molt/base/error.h"
#include "molt/base/json.h"

namespace molt {
namespace {

using optim::Schedule;
using optim::ScheduleConfig;

TEST(Schedule, FollowsTransformers) {
  const Json golden = read_json_file(MOLT_SOURCE_DIR "/tests/golden/schedules/golden.json");
  ASSERT_GE(golden["schedules"].size(), 9u);
  for (const Json& c : golden["schedules"]) {
    const Json extra = c.value("extra", Json::object());
    const double lr = c["lr"];
    ScheduleConfig config;
    config.lr_scheduler_type = c["name"];
    config.warmup_steps = c["warmup"];
    config.min_lr_ratio = extra.value("min_lr_rate", extra.value("min_lr_ratio", extra.value("lr_end", 0.0) / lr));
    config.power = extra.value("power", 1.0);
    config.decay_steps = extra.value("num_decay_steps", 0);
    config.decay_type = extra.value("decay_type", "cosine");
    const Schedule schedule(config, c["steps"]);
    for (size_t k = 0; k < c["rates"].size(); ++k)  // the last one is the rate after the end
      EXPECT_NEAR(lr * schedule.factor(static_cast<int64_t>(k)), c["rates"][k].get<double>(), 1e-17)
          << c["name"] << " at step " << k;  // rates are at most 4e-3: two units in the last place
  }
}

TEST(Schedule, ShapesOfTheFinalDecay) {
  for (const auto& [type, middle] : {std::pair{"linear", 0.5}, {"cosine", 0.5}, {"1-sqrt", 1 - std::sqrt(0.5)}}) {
    const Schedule schedule({.lr_scheduler_type = "wsd", .decay_ratio = 0.4, .decay_type = type}, 20);
    EXPECT_EQ(schedule.decay_steps(), 8);
    EXPECT_EQ(schedule.factor(0), 1);
    EXPECT_EQ(schedule.factor(12), 1);
    EXPECT_NEAR(schedule.factor(16), middle, 1e-15) << type;
    EXPECT_EQ(schedule.factor(20), 0);
  }
}

TEST(Schedule, WarmUpAsAShareIsRoundedUp) {
  EXPECT_EQ(Schedule({.warmup_ratio = 0.03}, 101).warmup_steps(), 4);
  EXPECT_EQ(Schedule({.warmup_steps = 2, .warmup_ratio = 0.03}, 101).warmup_steps(), 2);
}

TEST(Schedule, StaysDownAfterTheEnd) {
  for (const char* type : {"linear", "cosine", "polynomial", "wsd"}) {
    const Schedule schedule({.lr_scheduler_type = type, .min_lr_ratio = 0.1}, 10);
    for (const int64_t step : {10, 11, 15, 1000}) EXPECT_NEAR(schedule.factor(step), 0.1, 1e-15) << type;
  }
}

TEST(Schedule, RunsOfNoOrOneStep) {
  for (const char* type : {"constant", "linear", "cosine", "polynomial", "wsd"}) {
    for (const int64_t steps : {0, 1}) {
      const double factor = Schedule({.lr_scheduler_type = type}, steps).factor(0);
      EXPECT_TRUE(factor >= 0 && factor <= 1) << type;
    }
  }
}

TEST(Schedule, RefusesWhatCannotBe) {
  auto make = [](ScheduleConfig config, int64_t steps = 10) { Schedule(config, steps); };
  EXPECT_THROW(make({.lr_scheduler_type = "exponential"}), UsageError);
  EXPECT_THROW(make({.warmup_steps = -1}), UsageError);
  EXPECT_THROW(make({.warmup_ratio = 1.5}), UsageError);
  EXPECT_THROW(make({.min_lr_ratio = -0.1}), UsageError);
  EXPECT_THROW(make({.power = 0}), UsageError);
  EXPECT_THROW(make({}, -1), UsageError);
  EXPECT_THROW(make({.lr_scheduler_type = "wsd", .warmup_steps = 6, .decay_steps = 5}), UsageError);
  EXPECT_THROW(make({.lr_scheduler_type = "wsd", .decay_type = "square"}), UsageError);
}

}  // namespace
}  // namespace molt

// The training loop: a run that was stopped or killed and resumed ends with the same bits; other recipes and other data
// are refused; numbers that are not finite stop it by name; the best model is the one that is kept.
#include "molt/train/trainer.h"

#include <cmath>
#include <limits>

#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/train/checkpoint.h"
#include "tests/train/recipes.h"
#include "tests/train/temporary.h"

namespace molt::train {
namespace {

/// What one run, or several parts of one, left behind.
struct History {
  std::vector<double> losses;  // by step
  std::vector<double> norms, rates, epochs;
  std::vector<std::pair<int64_t, std::string>> notes;
  std::vector<std::vector<double>> evals;
  TrainResult result;
  std::map<std::string, std::vector<double>> state;       // of the methods at the end
  std::map<std::string, std::vector<double>> checkpoint;  // methods and optimizer in the last checkpoint
  std::vector<double> logits;

  void take(const StepRecord& record) {
    const auto step = static_cast<size_t>(record.step);
    // A step that is done again after a kill must come out the same.
    if (step <= losses.size()) {
      EXPECT_EQ(losses[step - 1], record.loss) << "step " << step;
      return;
    }
    EXPECT_EQ(step, losses.size() + 1);
    losses.push_back(record.loss);
    norms.push_back(record.grad_norm);
    rates.push_back(record.lr);
    epochs.push_back(record.epoch);
  }
};

struct Killed {};

enum class End { kStopped, kKilled };

/// Runs a recipe with a break after each step of `breaks`, each part with a model, data and trainer of its own.
History run(const Recipe& recipe, const std::vector<int64_t>& breaks, End end = End::kStopped) {
  const TemporaryDirectory directory;
  const GoldenStream probe = golden_stream();
  History history;
  for (size_t part = 0; part <= breaks.size(); ++part) {
    const RunDirectory run =
        part == 0 ? RunDirectory::create(directory / "run", "recipe") : RunDirectory::open(directory / "run");
    const TunedModel tuned("tied_small", Dtype::kF32, recipe.methods);
    Data data;
    int64_t last = 0;
    const int64_t stop = part < breaks.size() ? breaks[part] : -1;
    TrainHooks hooks;
    hooks.on_step = [&](const StepRecord& record, int64_t) {
      last = record.step;
      history.take(record);
      if (end == End::kKilled && last == stop) throw Killed();
    };
    hooks.on_note = [&](const NoteRecord& note) { history.notes.emplace_back(note.step, note.text); };
    if (recipe.evaluates) {
      hooks.evaluate = [&](const nn::EditSet& edits) -> Scores {
        const NoGrad no_grad;
        const nn::Context c{.segments = &probe.segments, .edits = &edits};
        const nn::LossSum loss = tuned.model().loss(c, tuned.model().hidden(c, probe.ids), probe.labels);
        // Best somewhere in the middle, so that the best is not the last.
        const double value = loss.sum.value().values()[0] * (last <= 4 ? 1 : 2);
        history.evals.push_back({static_cast<double>(last), value});
        return {{"loss", value}};
      };
    }
    hooks.should_stop = [&] { return end == End::kStopped && last == stop; };
    Trainer trainer(tuned.model(), tuned.methods(), data.stream, recipe.config, 3, &run, "recipe", hooks);
    EXPECT_EQ(trainer.resume() > 0, part > 0 && !run.checkpoint_steps().empty());
    try {
      history.result = trainer.run();
    } catch (const Killed&) {
      EXPECT_EQ(last, stop);
      continue;
    }
    EXPECT_EQ(history.result.finished, stop < 0 || stop == trainer.total_steps()) << "part " << part;
    if (stop >= 0) {
      EXPECT_EQ(history.result.steps, stop);
      continue;
    }
    for (const nn::Method* method : tuned.methods()) {
      for (const auto& [name, tensor] : method->state()) history.state[name] = tensor.values();
    }
    const Checkpoint checkpoint = read_last_checkpoint(run).value();
    for (const auto& [name, tensor] : checkpoint.tensors) history.checkpoint[name] = tensor.values();
    const nn::Context c{.segments = &probe.segments, .edits = &trainer.edits()};
    const NoGrad no_grad;
    history.logits = tuned.model().logits(c, tuned.model().hidden(c, probe.ids), probe.rows).value().values();
  }
  return history;
}

void expect_same(const History& a, const History& b) {
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.norms, b.norms);
  EXPECT_EQ(a.rates, b.rates);
  EXPECT_EQ(a.epochs, b.epochs);
  EXPECT_EQ(a.notes, b.notes);
  EXPECT_EQ(a.evals, b.evals);
  EXPECT_EQ(a.state, b.state);
  EXPECT_EQ(a.checkpoint, b.checkpoint);
  EXPECT_EQ(a.logits, b.logits);
  EXPECT_EQ(a.result.steps, b.result.steps);
  EXPECT_EQ(a.result.tokens, b.result.tokens);
  EXPECT_EQ(a.result.last_loss, b.result.last_loss);
  EXPECT_EQ(a.result.best_step, b.result.best_step);
  EXPECT_EQ(a.result.best_loss, b.result.best_loss);
}

struct ResumeCase {
  const char* name;
  Recipe recipe;
  std::vector<int64_t> breaks;
};

void PrintTo(const ResumeCase& c, std::ostream* out) { *out << c.name; }

class Resume : public ::testing::TestWithParam<ResumeCase> {};

TEST_P(Resume, AfterStopsEndsWithTheSameBits) {
  const History straight = run(GetParam().recipe, {});
  EXPECT_TRUE(straight.result.finished);
  ASSERT_FALSE(straight.state.empty());
  ASSERT_GE(straight.losses.size(), 5u);
  EXPECT_NE(straight.losses.front(), straight.losses.back());
  expect_same(run(GetParam().recipe, GetParam().breaks), straight);
}

TEST_P(Resume, AfterBeingKilledEndsWithTheSameBits) {
  Recipe recipe = GetParam().recipe;
  recipe.config.save_steps = 2;
  recipe.config.eval_steps = 2;
  const History straight = run(recipe, {});
  History killed = run(recipe, GetParam().breaks, End::kKilled);
  // What happened after the last checkpoint happens again, and is heard again.
  killed.notes = straight.notes;
  killed.evals = straight.evals;
  expect_same(killed, straight);
}

std::vector<ResumeCase> resume_cases() {
  Recipe recomputed = lora_recipe(), best = lora_recipe(), sdt_best = sdt_recipe(), ssm = sdt_recipe();
  recomputed.config.recompute = true;
  best.evaluates = sdt_best.evaluates = true;
  best.config.eval_steps = sdt_best.config.eval_steps = 1;
  ssm.methods[0] = sdt_with("ssm", "a_bar");
  return {
      {"lora_once", lora_recipe(), {3}},
      {"lora_at_every_step", lora_recipe(), {1, 2, 3, 4, 5, 6}},
      {"lora_recomputed", recomputed, {4}},
      {"lora_best", best, {3, 6}},
      {"sdt_in_the_warm_up", sdt_recipe(), {1}},
      {"sdt_at_the_boundary", sdt_recipe(), {3}},
      {"sdt_just_after_it", sdt_recipe(), {4}},
      {"sdt_everywhere", sdt_recipe(), {2, 3, 4, 7}},
      {"sdt_ssm_warm_up", ssm, {2, 3, 5}},
      {"sdt_best", sdt_best, {3, 6}},
      {"whole_tensors_beside_sdt", whole_tensors_recipe(), {2, 3, 4, 6}},
      {"adalora_beside_sdt", adalora_recipe(), {2, 3, 4, 8}},
      {"rolora", rolora_recipe(false), {1, 2, 5}},
      {"rolora_after_a_warm_up", rolora_recipe(true), {2, 3, 5, 8}},
      {"xgblora", xgblora_recipe(), {1, 3, 5}},
      {"slora", slora_recipe(), {2, 5}},
      {"eva", eva_recipe(false), {1, 4}},
      {"eva_after_a_warm_up", eva_recipe(true), {2, 3, 5}},
      {"eva_with_ranks_that_move", eva_recipe(true, 3), {2, 3, 5}},
      {"diffora", diffora_recipe(), {1, 4, 6}},
      {"full", {{full_on({})}, config(6)}, {2, 5}},
      {"some_and_lora", {{full_on({"A_log", "D"}), lora_on({"out_proj"}, 0.2)}, config(6)}, {1, 4}},
  };
}
INSTANTIATE_TEST_SUITE_P(Cases, Resume, ::testing::ValuesIn(resume_cases()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Trainer, DropoutAndOrderComeFromTheSeed) {
  const Recipe recipe = lora_recipe();
  auto losses = [&](uint64_t seed, uint64_t order) {
    const TunedModel tuned("tied_small", Dtype::kF32, recipe.methods);
    Data data(order);
    std::vector<double> losses;
    TrainHooks hooks;
    hooks.on_step = [&](const StepRecord& record, int64_t) { losses.push_back(record.loss); };
    Trainer(tuned.model(), tuned.methods(), data.stream, recipe.config, seed, nullptr, "", hooks).run();
    return losses;
  };
  const auto first = losses(3, 7);
  EXPECT_EQ(losses(3, 7), first);
  EXPECT_NE(losses(4, 7), first);
  EXPECT_NE(losses(3, 8), first);
}

TEST(Trainer, AccumulationIsOneLargerBatch) {
  // Losses are sums over counts, so two batches of two samples and one of four give the same step, up to the order of
  // sums; dropout, keyed by the row in the step, draws the same too.
  auto last_loss = [&](int64_t batch_size, int64_t accumulation) {
    const TunedModel tuned("tied_small", Dtype::kF64, {lora_on({"all-linear"}, 0.3)});
    data::BatchStream stream(std::make_shared<SegmentsSource>(golden_stream()),
                             {.batch_size = batch_size, .shuffle = false});
    TrainConfig c = config(4);
    c.gradient_accumulation_steps = accumulation;
    return Trainer(tuned.model(), tuned.methods(), stream, c, 3, nullptr, "", {}).run().last_loss;
  };
  EXPECT_NEAR(last_loss(1, 6) / last_loss(6, 1), 1, 1e-11);
  EXPECT_NEAR(last_loss(3, 2) / last_loss(6, 1), 1, 1e-11);
}

TEST(Trainer, EpochsCountBatches) {
  const TunedModel tuned("tied_small", Dtype::kF32, {lora_on({"x_proj"})});
  auto total = [&](double epochs, int64_t accumulation) {
    Data data;
    TrainConfig c;
    c.num_train_epochs = epochs;
    c.gradient_accumulation_steps = accumulation;
    return Trainer(tuned.model(), tuned.methods(), data.stream, c, 1, nullptr, "", {}).total_steps();
  };
  EXPECT_EQ(total(1, 1), 3);
  EXPECT_EQ(total(4, 1), 12);
  EXPECT_EQ(total(1.5, 1), 5);  // 4.5 batches, rounded up
  EXPECT_EQ(total(4, 5), 3);
  EXPECT_EQ(total(0.01, 1), 1);
}

TEST(Trainer, KeepsTheBestModel) {
  for (const Recipe& recipe : {lora_recipe(), sdt_recipe()}) {
    const TunedModel tuned("tied_small", Dtype::kF32, recipe.methods);
    const GoldenStream probe = golden_stream();
    Data data;
    TrainConfig c = recipe.config;
    c.eval_steps = 1;
    auto logits = [&](const nn::EditSet& edits) {
      const NoGrad no_grad;
      const nn::Context context{.segments = &probe.segments, .edits = &edits};
      return tuned.model().logits(context, tuned.model().hidden(context, probe.ids), probe.rows).value().values();
    };
    // Asked in the last phase only. What is not a number is never the best, even if it comes first; the second is.
    std::vector<std::vector<double>> seen;
    std::vector<int64_t> steps;
    TrainHooks hooks;
    hooks.evaluate = [&](const nn::EditSet& edits) -> Scores {
      seen.push_back(logits(edits));
      return {{"loss", seen.size() == 1 ? std::nan("") : seen.size() == 2 ? 1.0 : 2.0}};
    };
    hooks.on_eval = [&](const EvalRecord& record) { steps.push_back(record.step); };
    Trainer trainer(tuned.model(), tuned.methods(), data.stream, c, 3, nullptr, "", hooks);
    const TrainResult result = trainer.run();
    const int64_t first = trainer.total_steps() - c.max_steps + 1;
    ASSERT_EQ(static_cast<int64_t>(steps.size()), c.max_steps);
    EXPECT_EQ(steps.front(), first);
    EXPECT_EQ(result.best_step, first + 1);
    EXPECT_EQ(result.best_loss, 1);
    EXPECT_EQ(logits(trainer.edits()), seen[1]);
    EXPECT_NE(logits(trainer.edits()), seen.back());

    TunedModel again("tied_small", Dtype::kF32, recipe.methods);
    for (size_t m = 0; m < again.method_count(); ++m) again.method(m).load_state(tuned.method(m).state());
    again.bind();
    EXPECT_EQ(again.logits(probe).values(), seen[1]);
  }
}

TEST(Trainer, AnotherRecipeOrOtherDataCannotResume) {
  const TemporaryDirectory directory;
  const RunDirectory run = RunDirectory::create(directory / "run", "recipe");
  const Recipe recipe = lora_recipe();
  const TunedModel tuned("tied_small", Dtype::kF32, recipe.methods);
  Data data;
  Trainer(tuned.model(), tuned.methods(), data.stream, config(2), 3, &run, "this recipe", {}).run();
  auto refusal = [&](const std::string& identity, uint64_t data_seed) {
    Data other(data_seed);
    Trainer trainer(tuned.model(), tuned.methods(), other.stream, config(2), 3, &run, identity, {});
    try {
      trainer.resume();
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(refusal("this recipe", 7), "");
  EXPECT_NE(refusal("that recipe", 7).find("another recipe"), std::string::npos);
  EXPECT_NE(refusal("that recipe", 7).find(run.path()), std::string::npos);
  EXPECT_NE(refusal("this recipe", 8), "");
}

TEST(Trainer, DamagedCheckpointsAreRefused) {
  const TemporaryDirectory directory;
  const RunDirectory run = RunDirectory::create(directory / "run", "recipe");
  const Recipe recipe = lora_recipe();
  {
    const TunedModel tuned("tied_small", Dtype::kF32, recipe.methods);
    Data data;
    Trainer(tuned.model(), tuned.methods(), data.stream, config(2), 3, &run, "", {}).run();
  }
  const TunedModel tuned("tied_small", Dtype::kF32, recipe.methods);
  auto refused = [&](const std::string& named) {
    Data data;
    Trainer trainer(tuned.model(), tuned.methods(), data.stream, config(2), 3, &run, "", {});
    try {
      trainer.resume();
    } catch (const UsageError& error) {
      EXPECT_NE(std::string(error.what()).find(named), std::string::npos) << error.what();
      return true;
    }
    return false;
  };
  ASSERT_FALSE(refused(""));
  const std::string state_path = run.checkpoint(2) + "/state.json",
                    tensors_path = run.checkpoint(2) + "/tensors.safetensors";
  const std::string state = read_file(state_path), tensors = read_file(tensors_path);
  const Json json = Json::parse(state);
  for (const auto& [key, value] : json.items()) {
    if (key == "step") continue;  // the directory's name says it too
    Json without = json, other = json;
    without.erase(key);
    other[key] = Json::array({"x"});
    for (const Json& changed : {without, other}) {
      write_file_atomic(state_path, changed.dump());
      EXPECT_TRUE(refused(key == "stream" && changed.contains(key) ? "data position" : run.path()))
          << key << ": " << changed.dump();
    }
  }
  for (const std::string& text : {std::string(), std::string("[]"), state.substr(0, state.size() / 2)}) {
    write_file_atomic(state_path, text);
    EXPECT_TRUE(refused(run.path())) << text;
  }
  write_file_atomic(state_path, state);
  for (const size_t size : {size_t{0}, size_t{4}, tensors.size() / 2, tensors.size() - 1}) {
    write_file_atomic(tensors_path, tensors.substr(0, size));
    EXPECT_TRUE(refused(run.path())) << size << " bytes of tensors";
  }
  write_file_atomic(tensors_path, tensors);
  EXPECT_FALSE(refused(""));
}

TEST(Trainer, WhatCannotRunIsRefusedBeforeItBegins) {
  auto refusal = [](const std::vector<MakeMethod>& methods, const TrainConfig& c) {
    const TunedModel tuned("tied_small", Dtype::kF32, methods);
    Data data;
    TrainHooks hooks;
    hooks.on_step = [](const StepRecord&, int64_t) { ADD_FAILURE() << "a step was taken"; };
    try {
      Trainer(tuned.model(), tuned.methods(), data.stream, c, 3, nullptr, "", hooks).run();
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string("nothing was thrown");
  };
  TrainConfig late = config(1);
  late.schedule = {.lr_scheduler_type = "wsd", .decay_steps = 3};  // fits the selection, not the one step that follows
  EXPECT_NE(refusal({sdt_with("a_log")}, late).find("decay_steps"), std::string::npos);
  EXPECT_NE(refusal({lora_on({"x_proj"}), lora_on({"all-linear"})}, config(2)).find("x_proj.lora_A is trained by two"),
            std::string::npos);
  EXPECT_NE(refusal({sdt_with("a_log"), sdt_with("ssm")}, config(2)).find("phases"), std::string::npos);
}

/// Runs until it stops, and returns why.
std::string failure(const TunedModel& tuned, const TrainConfig& c, const RunDirectory* run = nullptr) {
  Data data;
  try {
    Trainer(tuned.model(), tuned.methods(), data.stream, c, 3, run, "", {}).run();
  } catch (const SystemError& error) {
    return error.what();
  }
  return "";
}

TEST(Trainer, LossesThatAreNotFiniteStopIt) {
  const TemporaryDirectory directory;
  const RunDirectory run = RunDirectory::create(directory / "run", "recipe");
  const TunedModel tuned("tied_small", Dtype::kF32, {lora_on({"in_proj"})});
  TrainConfig c = config(9);
  c.schedule = {.lr_scheduler_type = "constant"};
  c.learning_rate = 1e30;
  c.save_steps = 1;
  const std::string message = failure(tuned, c, &run);
  // The first step goes through, and ruins the weights.
  EXPECT_NE(message.find("step 2"), std::string::npos) << message;
  EXPECT_NE(message.find("what low_rank gives in layer 0 is not finite (loss"), std::string::npos) << message;
  EXPECT_NE(message.find("learning_rate"), std::string::npos) << message;
  EXPECT_NE(message.find(run.path()), std::string::npos) << message;
  EXPECT_EQ(run.checkpoint_steps(), std::vector<int64_t>{1});
  for (const nn::Trainable& t : tuned.trainables()) {
    for (const double v : t.var.value().values()) ASSERT_TRUE(std::isfinite(v)) << t.name;
  }
}

TEST(Trainer, WeightsThatAreNotFiniteStopItAtOnce) {
  const TunedModel tuned("tied_small", Dtype::kF32, {lora_on({"in_proj"})});
  tuned.trainables()[1].var.value().data<float>()[0] = std::numeric_limits<float>::quiet_NaN();
  const std::string message = failure(tuned, config(9));
  EXPECT_NE(message.find("step 1"), std::string::npos) << message;
  EXPECT_NE(message.find("backbone.layers.0.mixer.in_proj.lora_B is not finite"), std::string::npos) << message;
}

TEST(Trainer, AGradientThatIsNotFiniteIsNamed) {
  const peft::LoraConfig lora{.r = 2, .lora_alpha = 2e6, .target_modules = {"in_proj", "x_proj"}};
  const TunedModel tuned("tied_small", Dtype::kF32,
                         {[&](Dtype dtype) { return std::make_unique<peft::Lora>(lora, 1, dtype); }});
  // A so large that the gradient of B overflows; B is still zero, so the loss is what it always was.
  Tensor A = tuned.trainable("backbone.layers.1.mixer.x_proj.lora_A").value();
  A.fill(1e36);
  std::vector<std::vector<double>> before;
  for (const nn::Trainable& t : tuned.trainables()) before.push_back(t.var.value().values());
  const std::string message = failure(tuned, config(9));
  EXPECT_NE(message.find("step 1"), std::string::npos) << message;
  EXPECT_NE(message.find("the gradient of backbone.layers.1.mixer.x_proj.lora_B"), std::string::npos) << message;
  for (size_t i = 0; i < before.size(); ++i) EXPECT_EQ(tuned.trainables()[i].var.value().values(), before[i]);
}

TEST(Trainer, WithoutATrainableOrALabelThereIsNothingToDo) {
  const TunedModel nothing("tied_small", Dtype::kF32, {});
  Data data;
  EXPECT_THROW(Trainer(nothing.model(), {}, data.stream, config(2), 3, nullptr, "", {}).run(), UsageError);

  GoldenStream unlabelled = golden_stream();
  std::fill(unlabelled.labels.begin(), unlabelled.labels.end(), data::kIgnored);
  const TunedModel tuned("tied_small", Dtype::kF32, {lora_on({"in_proj"})});
  data::BatchStream stream(std::make_shared<SegmentsSource>(unlabelled), {.batch_size = 2});
  EXPECT_THROW(Trainer(tuned.model(), tuned.methods(), stream, config(2), 3, nullptr, "", {}).run(), UsageError);
}

}  // namespace
}  // namespace molt::train

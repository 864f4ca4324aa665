// Plans against what they are about: counts against the methods and by hand, FLOPs by hand, memory against a run.
#include "molt/app/plan.h"

#include <gtest/gtest.h>

#include "molt/app/methods.h"
#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/base/str.h"
#include "molt/train/trainer.h"

namespace molt::app {
namespace {

/// The bundled base (8 layers, D 256, E 512, N 16, R 16, V 4096) on the bundled task.
Recipe recipe_of(const std::string& more) {
  const std::string root = MOLT_SOURCE_DIR "/examples/";
  const auto missing = [&](const std::string& key, int value) {
    return more.find(key) == std::string::npos ? key + ": " + std::to_string(value) + ", " : std::string();
  };
  return Recipe::from(YamlNode::parse("{model: " + root +
                                          "base, base_dtype: f32, compute: f32, threads: 1, "
                                          "data: {train: " +
                                          root + "commands/train.jsonl, limit: 60}, " + missing("max_steps", 4) +
                                          missing("tokens_per_batch", 160) + more + "}",
                                      "test"),
                      "test");
}

RunPlan plan_of(const Recipe& recipe) { return make_plan(recipe, prepare_run(recipe, {}), {.seconds = 0}); }

constexpr int64_t kLayers = 8, D = 256, E = 512, N = 16, K = 4, R = 16, V = 4096;

TEST(Plan, CountsWhatTrains) {
  const struct {
    const char* method;
    int64_t count;
  } cases[] = {
      {"{lora: {r: 4, target_modules: [in_proj]}}", kLayers * 4 * (D + 2 * E)},
      {"{lora: {r: 4, target_modules: [in_proj, out_proj], rank_pattern: {out_proj: 2, 'layers\\.0\\..*in_proj': 1}}}",
       ((kLayers - 1) * 4 + 1) * (D + 2 * E) + kLayers * 2 * (E + D)},
      {"{lora: {r: 4, target_modules: ['x_proj:B', out_proj]}}", kLayers * (4 * (E + N) + 4 * (E + D))},
      // 51 of 512 channels stay (99 % freeze 460.8 of them: floor), 4 of 16 states; both columns of B and C.
      {"{full: {train: [A_log, conv1d]}}", kLayers * (E * N + E * K + E)},
  };
  for (const auto& c : cases) {
    const RunPlan plan = plan_of(recipe_of(std::string("method: ") + c.method));
    EXPECT_EQ(plan.trainable, c.count) << c.method;
    EXPECT_EQ(plan.training().trainable, c.count) << c.method;
    EXPECT_EQ(plan.total, 4552960 + c.count) << c.method;
  }
}

TEST(Plan, EveryPhaseHasItsOwnCount) {
  const Recipe recipe = recipe_of(
      "method: [{sdt: {freeze_channels: 0.75, freeze_states: 0.5, warmup_steps: 3}}, {lora: {r: 2, target_modules: "
      "[out_proj]}}]");
  const RunPlan plan = plan_of(recipe);
  const int64_t lora = kLayers * 2 * (E + D);
  ASSERT_EQ(plan.phases.size(), 2u);
  EXPECT_EQ(plan.phases[0].trainable, kLayers * E * N + lora);  // the warm-up trains A_log whole
  EXPECT_EQ(plan.phases[0].steps, 3);
  EXPECT_EQ(plan.phases[1].trainable, kLayers * (E / 4) * (N / 2 + 2 * N) + lora);
  EXPECT_EQ(plan.phases[1].steps, 4);
  int64_t counted = 0;
  for (const MethodPlan& m : plan.methods) counted += m.trainable;
  EXPECT_EQ(counted, plan.phases[1].trainable) << "the methods' formulas";
}

TEST(Plan, TheWholeModelIsCountedOnce) {
  const RunPlan plan = plan_of(recipe_of("method: full"));
  EXPECT_EQ(plan.trainable, 4552960);
  EXPECT_EQ(plan.total, 4552960);
}

TEST(Plan, DataIsThatOfTheRun) {
  const Recipe recipe = recipe_of("method: lora, gradient_accumulation_steps: 2, max_steps: 0, num_train_epochs: 3");
  const PreparedRun prepared = prepare_run(recipe, {});
  const RunPlan plan = make_plan(recipe, prepared, {.seconds = 0});
  EXPECT_EQ(plan.data.examples, 60);
  int64_t tokens = 0;
  for (int64_t i = 0; i < 60; ++i) tokens += prepared.data.train->rows(i);
  EXPECT_EQ(plan.data.tokens, tokens);
  EXPECT_EQ(plan.data.steps_per_epoch, static_cast<double>(prepared.stream->steps_per_epoch()) / 2);
  EXPECT_EQ(plan.steps(), (prepared.stream->steps_in(3) + 1) / 2);
  EXPECT_EQ(plan.seconds(), 0) << "nothing was measured";
}

TEST(Plan, MemoryIsForTheBatchesThatTheRunWillSee) {
  const Recipe recipe = recipe_of("method: lora, batch_size: 2, max_steps: 3");
  const PreparedRun prepared = prepare_run(recipe, {});
  int64_t seen = 0, all = 0;
  for (int64_t b = 0; b < prepared.stream->steps_per_epoch(); ++b) {
    all = std::max(all, prepared.stream->at(0, b).rows());
    if (b < 3) seen = all;
  }
  ASSERT_LT(seen, all);
  EXPECT_EQ(make_plan(recipe, prepared, {.seconds = 0}).data.most_tokens, seen);
}

TEST(Plan, LongSamplesInSpansRunForwardTwice) {
  const Recipe whole = recipe_of("method: lora"), cut = recipe_of("method: lora, span_length: 8, span_memory: 0"),
               truncated = recipe_of("method: lora, span_length: 8, truncated_backprop: true");
  const PreparedRun prepared = prepare_run(cut, {});
  int64_t longest = 0, again = 0, batches = prepared.stream->steps_per_epoch();
  for (int64_t i = 0; i < prepared.data.train->size(); ++i) {
    const int64_t rows = prepared.data.train->rows(i);
    longest = std::max(longest, rows);
    again += (rows - 1) / 8 * 8;  // every piece but the last
  }
  const RunPlan plan = make_plan(cut, prepared, {.seconds = 0});
  EXPECT_EQ(plan.data.most_tokens, 8);
  EXPECT_EQ(plan.data.most_pieces, (longest + 7) / 8);
  EXPECT_DOUBLE_EQ(plan.data.step_again * static_cast<double>(batches), static_cast<double>(again));
  EXPECT_EQ(plan_of(truncated).data.step_again, 0);
  EXPECT_LT(plan.memory().saved, plan_of(whole).memory().saved / 4);
}

/// One segment of 1,024 tokens of plain text.
Recipe long_text(const std::string& more) {
  static const std::string file = [] {
    std::string path = ::testing::TempDir() + "/plan_long.txt", text;
    for (int i = 0; i < 2000; ++i) text += str("line ", i, " of some text that is read as one.\n");
    write_file_atomic(path, text);
    return path;
  }();
  return Recipe::from(
      YamlNode::parse(
          "{model: " MOLT_SOURCE_DIR
          "/examples/base, base_dtype: f32, compute: f32, threads: 1, max_steps: 2, tokens_per_batch: 1024, "
          "data: {train: " +
              file + ", segment_length: 1024}, method: lora, span_length: 128, " + more + "}",
          "test"),
      "test");
}

TEST(Plan, SpansKeepProductsFirstAndThenAllTheirActivations) {
  const RunPlan none = plan_of(long_text("span_memory: 0"));
  ASSERT_EQ(none.data.most_pieces, 8);
  EXPECT_EQ(none.kept.whole + none.kept.products, 0);
  EXPECT_EQ(none.data.step_known, 0);
  // Every window is cut into eight but the last, which is short.
  const double cut = static_cast<double>(none.data.cut.size()) / static_cast<double>(none.data.looked);
  EXPECT_GT(cut, 0.9);
  EXPECT_DOUBLE_EQ(none.data.step_again, cut * 7 * 128);
  const int64_t span = none.memory().saved;
  const auto keeping = [](int64_t bytes) { return "span_memory: " + std::to_string(bytes); };
  const int64_t products = none.training().products;
  ASSERT_GT(products, 0);
  ASSERT_LT(products, span / 2);
  const RunPlan three = plan_of(long_text(keeping(3 * products + products / 2)));
  EXPECT_EQ(three.kept.whole, 0);
  EXPECT_EQ(three.kept.products, 3);
  EXPECT_DOUBLE_EQ(three.data.step_again, cut * 7 * 128);
  EXPECT_DOUBLE_EQ(three.data.step_known, cut * 3 * 128);
  const double saved = static_cast<double>(span + 3 * products);
  EXPECT_NEAR(static_cast<double>(three.memory().saved), saved, 0.02 * saved);
  const RunPlan more = plan_of(long_text(keeping(7 * products + 2 * (span - products) + span / 4)));
  EXPECT_EQ(more.kept.whole, 2);
  EXPECT_EQ(more.kept.products, 5);
  EXPECT_DOUBLE_EQ(more.data.step_again, cut * 5 * 128);
  const RunPlan all = plan_of(long_text(keeping(20 * span)));
  EXPECT_EQ(all.kept.whole, 7);
  EXPECT_EQ(all.kept.products, 0);
  EXPECT_EQ(all.data.step_again, 0);
  // max_memory decides where nothing else does: a tenth of it stays free.
  const int64_t limit = none.memory().total() / 10 * 11 + 7 * products + 2 * (span - products) + span / 4;
  const RunPlan limited = plan_of(long_text("max_memory: " + std::to_string(limit)));
  EXPECT_GE(limited.kept.whole, 1);
  EXPECT_LE(limited.kept.whole, 3);
  EXPECT_EQ(limited.kept.products, 7 - limited.kept.whole);
  EXPECT_LE(limited.memory().total(), limit);
}

TEST(Plan, FlopsByHand) {
  const Recipe recipe = recipe_of("method: {lora: {r: 4, target_modules: [out_proj]}}");
  const PreparedRun prepared = prepare_run(recipe, {});
  nn::EditSet edits;
  attach_methods(prepared.methods, *prepared.base.model);
  prepared.methods[0]->bind(edits);
  const TokenFlops plain = count_flops(*prepared.base.model, edits, false);
  const double products = 2.0 * (D * 2 * E + E * (R + 2 * N) + R * E + E * D);  // in, x, dt, out
  const double lora = 2.0 * 4 * (E + D), conv = 2.0 * E * K;
  const double scan = 7.0 * E * N + 10 * E, scan_back = 17.0 * E * N + 20 * E;
  EXPECT_DOUBLE_EQ(plain.forward, kLayers * (products + lora + conv + scan));
  // Towards the input for everything; twice for what trains: its own gradient too.
  EXPECT_DOUBLE_EQ(plain.backward, kLayers * (products + 2 * lora + 2 * conv + scan_back));
  EXPECT_DOUBLE_EQ(plain.head_forward, 2.0 * V * D);
  EXPECT_DOUBLE_EQ(plain.head_backward, 2.0 * V * D);
  EXPECT_DOUBLE_EQ(plain.step(100, 10), 100 * (plain.forward + plain.backward) + 10 * 4.0 * V * D);
  const TokenFlops again = count_flops(*prepared.base.model, edits, true);
  EXPECT_DOUBLE_EQ(again.forward, plain.forward);
  EXPECT_DOUBLE_EQ(again.backward, plain.backward + plain.forward);
}

TEST(Plan, LayersBelowTheLowestThatTrainsHaveNoBackward) {
  const Recipe recipe = recipe_of("method: {lora: {r: 4, target_modules: ['.*layers\\.[67]\\..*out_proj']}}");
  const PreparedRun prepared = prepare_run(recipe, {});
  nn::EditSet edits;
  attach_methods(prepared.methods, *prepared.base.model);
  prepared.methods[0]->bind(edits);
  EXPECT_EQ(lowest_trained_layer(*prepared.base.model, edits), 6);
  const nn::EditSet none;
  EXPECT_EQ(lowest_trained_layer(*prepared.base.model, none), kLayers);
  const TokenFlops two = count_flops(*prepared.base.model, edits, false);
  const TokenFlops nothing = count_flops(*prepared.base.model, none, false);
  EXPECT_EQ(nothing.backward, 0);
  EXPECT_GT(two.backward, 0);
  EXPECT_LT(two.backward, two.forward);
}

/// Bytes of tensors that a run of the whole model takes from the system, loading aside.
int64_t measured(const Recipe& recipe) {
  PreparedRun prepared = prepare_run(recipe, {});
  trim_memory();
  const size_t before = memory_use().reserved;
  models::load_weights(prepared.base);
  attach_methods(prepared.methods, *prepared.base.model);
  trim_memory();
  std::vector<nn::Method*> methods;
  for (const auto& method : prepared.methods) methods.push_back(method.get());
  train::Trainer trainer(*prepared.base.model, methods, *prepared.stream, recipe.training, 42, nullptr, "", {});
  trainer.run();
  return static_cast<int64_t>(memory_use().reserved - before);
}

// From three layers to eight. What is not exact: how well blocks of so many layers, and of other batches than those
// measured on, fill what others left; so 10 %.
class PlanMemory : public ::testing::TestWithParam<const char*> {};

/// Memory as three of the layers foretell it.
MemoryPlan foretold_by_three_layers(const Recipe& recipe, const PreparedRun& prepared, const RunPlan& plan) {
  nn::EditSet edits;
  for (const auto& method : prepared.methods) {
    method->attach(prepared.base.model->sites());
    method->bind(edits);
  }
  Probe probe(prepared.base, recipe.methods, {.layers = 3});
  const std::vector<data::Batch> batches =
      typical_batches(*prepared.stream, {.batches = 4, .span = recipe.training.span_length});
  return forecast_memory(probe,
                         {.base = prepared.base,
                          .edits = edits,
                          .trainable = plan.training().trainable,
                          .most_rows = plan.data.most_tokens,
                          .batches = batches},
                         recipe.training.recompute);
}

// What a plan was made with is gone when the run begins, as it is for a user.
TEST_P(PlanMemory, IsThatOfARun) {
  const Recipe recipe = recipe_of(GetParam());
  double three = 0, all = 0;
  {
    const PreparedRun prepared = prepare_run(recipe, {});
    const RunPlan plan = make_plan(recipe, prepared, {.seconds = 0});
    three = static_cast<double>(foretold_by_three_layers(recipe, prepared, plan).tensors());
    all = static_cast<double>(plan.memory().tensors());
  }
  const double found = static_cast<double>(measured(recipe));
  EXPECT_NEAR(three, found, 0.1 * found);
  EXPECT_NEAR(all, found, 0.1 * found);
}

TEST(Plan, MemoryForSpansIsReadAsBytes) {
  EXPECT_EQ(long_text("span_memory: 3MiB").training.span_bytes(), 3 << 20);
  EXPECT_EQ(long_text("span_memory: 0").training.span_bytes(), 0);
  const int64_t chosen = long_text("seed: 1").training.span_bytes();
  EXPECT_GT(chosen, 0);
  EXPECT_LE(chosen, int64_t{16} << 30);
  for (const char* wrong : {"span_memory: plenty", "span_memory: -1"}) EXPECT_THROW(long_text(wrong), UsageError);
  EXPECT_THROW(recipe_of("method: lora, span_memory: 1GiB"), UsageError) << "without span_length";
}

TEST(Plan, MemoryOfSpansIsThatOfARun) {
  for (const char* memory : {"span_memory: 0", "span_memory: 10MiB", "span_memory: 40MiB", "span_memory: 1GiB"}) {
    const Recipe recipe = long_text(memory);
    const RunPlan plan = plan_of(recipe);
    const double found = static_cast<double>(measured(recipe));
    EXPECT_NEAR(static_cast<double>(plan.memory().tensors()), found, 0.15 * found)
        << memory << ", " << plan.kept.whole << " spans kept, products of " << plan.kept.products;
  }
}

// Longer than what is measured on, with labels at its end alone.
TEST(Plan, MemoryOfALongPromptIsThatOfARun) {
  const std::string file = ::testing::TempDir() + "/plan_prompt.jsonl";
  std::string prompt;
  for (int i = 0; i < 900; ++i) prompt += str("line ", i, " of a prompt. ");
  write_file_atomic(file, Json{{"prompt", prompt}, {"completion", "the end"}}.dump() + "\n");
  for (const char* more : {"recompute: true", "recompute: false"}) {
    const Recipe recipe = Recipe::from(
        YamlNode::parse(
            str("{model: ", MOLT_SOURCE_DIR, "/examples/base, base_dtype: f32, compute: f32, threads: 1, ",
                "max_steps: 1, tokens_per_batch: 20000, data: {train: ", file, "}, method: lora, ", more, "}"),
            "test"),
        "test");
    const RunPlan plan = plan_of(recipe);
    ASSERT_GT(plan.data.most_tokens, BatchLimits().rows);
    const double found = static_cast<double>(measured(recipe));
    EXPECT_NEAR(static_cast<double>(plan.memory(recipe.training.recompute).tensors()), found, 0.1 * found) << more;
  }
}

INSTANTIATE_TEST_SUITE_P(Recipes, PlanMemory,
                         ::testing::Values("method: {lora: {r: 8, target_modules: [in_proj, x_proj, out_proj]}}",
                                           "method: {lora: {r: 8, target_modules: [out_proj]}}, recompute: true",
                                           "method: full", "method: full, recompute: true",
                                           "method: lora, span_length: 64"));

TEST(Plan, LongBatchesAreCarriedOver) {
  const Recipe recipe = recipe_of("method: lora");
  const PreparedRun prepared = prepare_run(recipe, {});
  nn::EditSet edits;
  attach_methods(prepared.methods, *prepared.base.model);
  prepared.methods[0]->bind(edits);
  Probe probe(prepared.base, recipe.methods, {.layers = 2});
  const std::vector<data::Batch> whole = typical_batches(*prepared.stream, {.batches = 4});
  const std::vector<data::Batch> cut = typical_batches(*prepared.stream, {.batches = 4, .rows = whole[0].rows() / 2});
  EXPECT_EQ(cut[0].rows(), whole[0].rows() / 2);
  ForecastInputs in{
      .base = prepared.base, .edits = edits, .trainable = 1, .most_rows = whole[0].rows(), .batches = {whole[0]}};
  const double long_saved = static_cast<double>(forecast_memory(probe, in, false).saved);
  const ForecastInputs half{
      .base = prepared.base, .edits = edits, .trainable = 1, .most_rows = whole[0].rows(), .batches = {cut[0]}};
  EXPECT_NEAR(static_cast<double>(forecast_memory(probe, half, false).saved), long_saved, 0.1 * long_saved);
}

TEST(Plan, RecomputesOnlyWhereItMust) {
  MemoryPlan plain, recomputed;
  plain.weights = recomputed.weights = 100 << 20;
  plain.saved = 300 << 20;
  recomputed.saved = 20 << 20;
  EXPECT_FALSE(choose_recompute(int64_t{500} << 20, plain, recomputed, 512));
  EXPECT_TRUE(choose_recompute(int64_t{200} << 20, plain, recomputed, 512));
  try {
    choose_recompute(int64_t{110} << 20, plain, recomputed, 512);
    FAIL() << "110 MiB cannot be enough";
  } catch (const UsageError& e) {
    const std::string line = e.what();
    for (const char* part : {"110 MiB", "120 MiB", "512 tokens", "tokens_per_batch"})
      EXPECT_NE(line.find(part), std::string::npos) << line;
  }
}

TEST(Plan, MaxMemoryDecides) {
  const RunPlan free = plan_of(recipe_of("tokens_per_batch: 2048, method: lora"));
  // Between what the two need with the tenth to spare.
  const int64_t between = (free.memory(false).total() + free.memory(true).total()) / 20 * 11;
  const RunPlan tight =
      plan_of(recipe_of("tokens_per_batch: 2048, method: lora, max_memory: " + std::to_string(between)));
  EXPECT_TRUE(tight.recompute);
  EXPECT_TRUE(tight.chosen);
  EXPECT_FALSE(plan_of(recipe_of("method: lora, max_memory: 20GiB")).recompute);
  EXPECT_THROW(plan_of(recipe_of("method: lora, max_memory: 20MiB")), UsageError);
  EXPECT_THROW(plan_of(recipe_of("method: lora, max_memory: 20MiB, recompute: true")), UsageError);
  EXPECT_THROW(recipe_of("method: lora, max_memory: plenty"), UsageError);
}

TEST(Plan, TimesAreMeasuredWhenAskedFor) {
  const Recipe recipe = recipe_of("method: lora");
  const RunPlan plan = make_plan(recipe, prepare_run(recipe, {}), {.seconds = 0.2});
  const StepRates& r = plan.training().rates;
  for (const double rate : {r.plain_forward, r.plain_head, r.layer_forward, r.layer_backward, r.head, r.update})
    EXPECT_GT(rate, 0);
  const double layers = static_cast<double>(kLayers) * plan.data.step_tokens * (r.layer_forward + r.layer_backward);
  EXPECT_NEAR(plan.training().step_seconds,
              layers + plan.data.step_labelled * r.head + static_cast<double>(plan.trainable) * r.update,
              1e-9 * layers);
  EXPECT_DOUBLE_EQ(plan.seconds(), 4 * plan.training().step_seconds);
}

}  // namespace
}  // namespace molt::app

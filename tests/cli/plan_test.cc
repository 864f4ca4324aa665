// molt plan: what it prints, that it needs no weights, and that it refuses what training refuses.
#include <gtest/gtest.h>

#include "molt/base/json.h"
#include "tests/cli/tiny.h"

namespace molt::test {
namespace {

std::string recipe_on(const std::string& model, const std::string& more = "") {
  return scratch().write("plan.yaml", "model: " + model + "\noutput_dir: " + scratch().file("planned") +
                                          "\nmethod: {lora: {r: 4, target_modules: [out_proj]}}\n" + kTinyData + more);
}

TEST(PlanVerb, ShowsEverySection) {
  const Ran ran = run_molt("plan " + recipe_on(tiny_model()));
  EXPECT_EQ(ran.code, 0) << ran.err;
  // 2 layers, r = 4, E = 64 in, D = 32 out.
  for (const char* part : {"trains", "768", "2 sites in 2 of 2 layers", "data", "steps per epoch", "memory", "together",
                           "kept for backward", "with recompute: true", "FLOP", "tokens/s", "validation"})
    EXPECT_TRUE(has(ran.out, part));
}

TEST(PlanVerb, JsonHoldsTheNumbers) {
  const Ran ran = run_molt("plan --quick --json " + recipe_on(tiny_model()));
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json plan = parse_json(ran.out, "plan");
  EXPECT_EQ(plan.at("trainable_parameters"), 768);
  EXPECT_EQ(plan.at("steps"), 3);
  EXPECT_EQ(plan.at("peak_memory_bytes"), plan.at("memory").at("total"));
  EXPECT_GT(plan.at("phases").at(0).at("flops_per_token").get<double>(), 0);
  EXPECT_EQ(plan.at("training_seconds"), 0);
}

TEST(PlanVerb, AgreesWithTheRun) {
  const Ran planned = run_molt("plan --quick --json " + recipe_on(tiny_model()));
  ASSERT_EQ(planned.code, 0) << planned.err;
  const Ran ran = run_molt("train " + recipe_on(tiny_model()));
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json plan = parse_json(planned.out, "plan"),
             result = read_json_file(scratch().file("planned") + "/result.json");
  for (const char* same : {"trainable_parameters", "total_parameters", "steps"})
    EXPECT_EQ(plan.at(same), result.at(same)) << same;
}

TEST(PlanVerb, ConfigAloneWillDo) {
  const std::string bare = scratch().file("bare");
  std::filesystem::create_directories(bare);
  for (const char* name : {"config.json", "tokenizer.json"})
    std::filesystem::copy_file(tiny_model() + "/" + name, bare + "/" + name,
                               std::filesystem::copy_options::overwrite_existing);
  const Ran ran = run_molt("plan --quick " + recipe_on(bare));
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(has(ran.out, "768"));
  EXPECT_EQ(run_molt("train " + recipe_on(bare)).code, 2) << "training needs weights";
}

TEST(PlanVerb, AModelThatDoesNotExistYet) {
  const std::string recipe = scratch().write(
      "scratch_plan.yaml",
      "from_scratch: {d_model: 48, layers: 5}\nmethod: full\ntokenizer: " + tiny_model() + "\n" + kTinyData);
  const Ran ran = run_molt("plan --quick " + recipe);
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(has(ran.out, "from scratch"));
  EXPECT_TRUE(has(ran.out, "5 layers of width 48"));
}

TEST(PlanVerb, ALineForEachVariant) {
  const std::string recipe =
      scratch().write("compare_plan.yaml",
                      "model: " + tiny_model() + "\n" + kTinyData +
                          "compare:\n  - {name: as it is, method: none}\n  - {name: small, method: {lora: {r: 2}}}\n"
                          "  - {name: whole, method: full}\n");
  const Ran ran = run_molt("plan --quick " + recipe);
  EXPECT_EQ(ran.code, 0) << ran.err;
  for (const char* part : {"as it is", "small", "whole", "with recompute"}) EXPECT_TRUE(has(ran.out, part));
  const Ran json = run_molt("plan --quick --json " + recipe);
  EXPECT_EQ(parse_json(json.out, "plan").size(), 3u);
}

TEST(PlanVerb, AVariantWithoutAMethodHasTheRecipes) {
  const std::string recipe = scratch().write(
      "method_above.yaml",
      "model: " + tiny_model() + "\n" + kTinyData +
          "method: {lora: {r: 2}}\ncompare:\n  - {name: slow, learning_rate: 1e-4}\n"
          "  - {name: wide, method: {lora: {r: 4}}}\n  - {name: many, methods: [bitfit, {lora: {r: 2}}]}\n");
  const Json plans = parse_json(run_molt("plan --quick --json " + recipe).out, "plan");
  ASSERT_EQ(plans.size(), 3u);
  EXPECT_EQ(2 * plans[0].at("trainable_parameters").get<int64_t>(), plans[1].at("trainable_parameters").get<int64_t>());
  EXPECT_GT(plans[2].at("trainable_parameters"), plans[0].at("trainable_parameters"));
}

TEST(PlanVerb, RefusesWhatTrainingRefuses) {
  const std::string good = recipe_on(tiny_model());
  for (const char* wrong : {"learnin_rate=1", "method.lora.r=0", "method.lora.target_modules=[inproj]", "method=lara",
                            "data.train=nowhere.jsonl", "model=nowhere/at_all", "tokens_per_batch=3",
                            "max_memory=plenty", "max_memory=5MiB"}) {
    const Ran plan = run_molt("plan " + good + " " + wrong), train = run_molt("train " + good + " " + wrong);
    EXPECT_EQ(plan.code, 2) << wrong;
    EXPECT_EQ(line_count(plan.err), 1) << plan.err;
    if (std::string(wrong) != "max_memory=5MiB") {
      EXPECT_EQ(plan.err, train.err);
    }
    EXPECT_EQ(train.code, 2) << wrong;
  }
}

TEST(PlanVerb, EnoughMemoryChangesNothing) {
  const std::string recipe = recipe_on(tiny_model());
  const int64_t needed = parse_json(run_molt("plan --quick --json " + recipe).out, "plan").at("peak_memory_bytes");
  const Ran ran = run_molt("plan --quick --json " + recipe + " max_memory=" + std::to_string(2 * needed));
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(parse_json(ran.out, "plan").at("recompute"), false);
}

}  // namespace
}  // namespace molt::test

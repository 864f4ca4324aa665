// A run directory stands for its run wherever it lies.
#include <gtest/gtest.h>

#include <filesystem>

#include "molt/base/file.h"
#include "molt/base/json.h"
#include "tests/cli/tiny.h"

namespace molt::test {
namespace {

namespace fs = std::filesystem;

/// A LoRA run with checkpoints, begun in `begun` and now in `now` of the scratch directory; the recipe names the
/// first.
std::string moved_run(const std::string& begun, const std::string& now) {
  const std::string first = scratch().file(begun),
                    recipe = scratch().write(begun + ".yaml", "model: " + tiny_model() + "\noutput_dir: " + first +
                                                                  "\nmethod: {lora: {r: 2}}\n"
                                                                  "learning_rate: 0.1\nsave_steps: 1\n" +
                                                                  kTinyData);
  const Ran ran = run_molt("train " + recipe);
  EXPECT_EQ(ran.code, 0) << ran.err;
  fs::rename(first, scratch().file(now));
  return scratch().file(now);
}

double loss_of(const std::string& run) {
  return parse_json(read_file(run + "/result.json"), "result")["scores"]["loss"];
}

TEST(MovedRun, IsJudgedWithItsAdapter) {
  const std::string run = moved_run("judged_then", "judged_now");
  for (const std::string& named : {run, run + "/", run + "/recipe.yaml"}) {
    const Ran ran = run_molt("eval --json " + named);
    ASSERT_EQ(ran.code, 0) << ran.err;
    EXPECT_NEAR(parse_json(ran.out, "eval").at("scores").at("loss").get<double>(), loss_of(run), 1e-6) << named;
  }
}

TEST(MovedRun, GoesOnWhereItLies) {
  const std::string run = moved_run("resumed_then", "resumed_now");
  const double loss = loss_of(run);
  fs::remove(run + "/result.json");
  fs::remove_all(run + "/adapter");
  const Ran ran = run_molt("train " + run + " --resume");
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_FALSE(fs::exists(scratch().file("resumed_then")));
  EXPECT_TRUE(fs::exists(run + "/adapter/adapter_config.json"));
  EXPECT_EQ(loss_of(run), loss);
  EXPECT_EQ(run_molt("train " + run).code, 2) << "holds a run already";
}

TEST(MovedRun, IsJudgedOnDataOfAnotherKind) {
  const std::string run = moved_run("other_data_then", "other_data_now");
  const std::string text = scratch().write("other_data.txt", "a text that is no example, and is judged all the same\n");
  const Ran ran = run_molt("eval " + run + " --data " + text);
  EXPECT_EQ(ran.code, 0) << ran.err;
}

}  // namespace
}  // namespace molt::test

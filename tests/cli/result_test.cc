// Using a result, as a user does: merging says how far the merged model is from the adapted one, and both say the same;
// beams and streaming.
#include "molt/base/json.h"
#include "tests/cli/tiny.h"

namespace molt::test {
namespace {

const std::string kF32 = " --compute f32 --base-dtype f32";

std::string said(const std::string& arguments) {
  const Ran ran = run_molt("generate --quiet --prompt 'turn on' --max-new-tokens 12" + kF32 + " " + arguments);
  EXPECT_EQ(ran.code, 0) << ran.err;
  return ran.out;
}

TEST(MergeVerb, SaysTheLargestDifferenceAndGivesThatModel) {
  const std::string merged = scratch().file("merged"), adapter = tiny_adapter_run() + "/adapter";
  const Ran ran = run_molt("merge --model " + tiny_model() + " --adapter " + adapter + " --out " + merged);
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(has(ran.out, "logits of the merged model differ by at most "));
  EXPECT_TRUE(has(ran.out, "of the largest"));
  for (const char* file : {"config.json", "model.safetensors", "tokenizer.json"})
    EXPECT_TRUE(std::filesystem::exists(merged + "/" + file)) << file;
  EXPECT_EQ(said("--model " + merged), said("--model " + tiny_model() + " --adapter " + adapter));
}

TEST(GenerateVerb, BeamsAndOneBeam) {
  const std::string model = "--model " + tiny_model() + " ";
  EXPECT_EQ(said(model + "--num-beams 1"), said(model));
  const std::string beams = said(model + "--num-beams 3");
  EXPECT_GT(beams.size(), 1u);
  EXPECT_EQ(said(model + "--num-beams 3"), beams);
}

TEST(GenerateVerb, TheSeedDecidesWhatIsSampled) {
  const std::string model = "--model " + tiny_model() + " --temperature 1 --top-k 50 --top-p 0.95 ";
  EXPECT_EQ(said(model + "--seed 3"), said(model + "--seed 3"));
  EXPECT_NE(said(model + "--seed 3"), said(model + "--seed 4"));
}

TEST(EvalVerb, ClassesByTheirLabelTokens) {
  const std::string data =
      scratch().write("classes.csv", "text,label\n\"good, very\",yes\nbad,no\nfine,yes\nawful,no\n");
  const Ran ran = run_molt("eval --model " + tiny_model() + " --data " + data +
                           " --prompt '{text} =' --completion ' {label}' --metric accuracy --json");
  ASSERT_EQ(ran.code, 0) << ran.err;
  const Json scores = Json::parse(ran.out).at("scores");
  for (const char* score : {"accuracy", "accuracy_among_classes", "matthews", "f1_macro", "outside_classes"})
    EXPECT_TRUE(scores.contains(score)) << score;
  EXPECT_EQ(Json::parse(ran.out).at("main"), "accuracy");
}

}  // namespace
}  // namespace molt::test

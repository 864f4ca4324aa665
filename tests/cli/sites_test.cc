// molt sites: every target, what one means, and what a mistake gets.
#include <gtest/gtest.h>

#include "tests/cli/run.h"

namespace molt::test {
namespace {

const std::string kModel = "tests/golden/mamba/tied_small/checkpoint";

TEST(Sites, OneLineForAllLayers) {
  const Ran ran = run_molt("sites " + kModel);
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(has(ran.out, "backbone.layers.{0,1}.mixer.x_proj    linear     (9, 32)   dt:1 B:4 C:4  ssm"));
  EXPECT_TRUE(has(ran.out, "shares the weight of backbone.embeddings"));
  EXPECT_FALSE(has(ran.out, "backbone.layers.0."));
  EXPECT_TRUE(has(ran.out, "ssm         linears of the state-space part: x_proj, dt_proj\n"));
  EXPECT_TRUE(has(ran.out, "in_out      projections into and out of such a block: in_proj, out_proj\n"));
  EXPECT_FALSE(has(ran.out, "attention   "));
}

TEST(Sites, AllLayersOneByOne) {
  const Ran ran = run_molt("sites " + kModel + " --all");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(has(ran.out, "backbone.layers.0.mixer.A_log"));
  EXPECT_TRUE(has(ran.out, "backbone.layers.1.mixer.A_log"));
}

TEST(Sites, ATargetAndWhatMethodsDoThere) {
  // r (in + out) per layer: 8 (32 + 4), two layers.
  const Ran slice = run_molt("sites " + kModel + " --match x_proj:B");
  EXPECT_EQ(slice.code, 0) << slice.err;
  EXPECT_TRUE(has(slice.out, "1 to 4"));
  EXPECT_TRUE(has(slice.out, "'x_proj:B' matches 2 targets"));
  EXPECT_TRUE(has(slice.out, "lora: 2 sites in 2 of 2 layers, 576 trainable at r=8"));
  EXPECT_TRUE(has(slice.out, "full: cannot act here"));

  const Ran a = run_molt("sites " + kModel + " --match 'backbone\\..*\\.1\\.mixer\\.A_log'");
  EXPECT_TRUE(has(a.out, "matches 1 target\n"));
  EXPECT_TRUE(has(a.out, "lora: 1 site in 1 of 2 layers, 288 trainable at r=8"));
  EXPECT_TRUE(has(a.out, "full: 1 tensor of the base, 128 trainable"));
}

TEST(Sites, MistakesAreOneLineAndExitTwo) {
  for (const auto& [arguments, text] : {std::pair{"sites " + kModel + " --match proj:B", "near names: x_proj:B"},
                                        {std::string("sites state-spaces/mamba-130m"), "hf download"},
                                        {std::string("sites"), "model is required"},
                                        {"sites " + kModel + " --match mlp", "presets that mean something here"},
                                        {"sites " + kModel + " --mach x", "--mach"}}) {
    const Ran ran = run_molt(arguments);
    EXPECT_EQ(ran.code, 2) << arguments;
    EXPECT_EQ(line_count(ran.err), 1) << ran.err;
    EXPECT_TRUE(has(ran.err, text));
    EXPECT_EQ(ran.out, "");
  }
}

}  // namespace
}  // namespace molt::test

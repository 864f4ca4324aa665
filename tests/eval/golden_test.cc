// Decoding against transformers: what its generate() said on the tiny Mambas of tests/golden.
#include <gtest/gtest.h>

#include "molt/base/file.h"
#include "molt/base/json.h"
#include "molt/eval/generate.h"
#include "molt/models/load.h"

namespace molt::eval {
namespace {

const std::string kGolden = MOLT_SOURCE_DIR "/tests/golden/";

Json golden(const std::string& path) { return Json::parse(read_file(kGolden + path)); }

models::LoadedModel load(const std::string& name, Dtype dtype) {
  auto loaded =
      models::open_model(kGolden + "mamba/" + name + "/checkpoint", nn::Precision{.base = dtype, .compute = dtype});
  models::load_weights(loaded);
  return loaded;
}

TEST(GoldenDecoding, GreedyAsTransformers) {
  for (const std::string name : {"tied_small", "untied_odd", "no_conv_bias"}) {
    // The two best logits are at least 0.03 apart at every step; f32 errs by 1e-5.
    const auto loaded = load(name, Dtype::kF32);
    const Json decode = golden("mamba/" + name + "/golden.json")["decode"];
    const auto expected = decode["new_ids"].get<std::vector<int32_t>>();
    const GenerateConfig config{.max_new_tokens = static_cast<int64_t>(expected.size())};
    EXPECT_EQ(generate({*loaded.model}, {decode["prompt"].get<std::vector<int32_t>>()}, config)[0], expected) << name;
  }
}

TEST(GoldenDecoding, BeamsPenaltiesAndStopTokensAsTransformers) {
  const Json file = golden("decode/golden.json");
  std::string name;
  models::LoadedModel loaded;
  int ended = 0;
  for (const Json& result : file["results"]) {
    if (result["checkpoint"] != name) loaded = load(name = result["checkpoint"], Dtype::kF64);
    const Json& search = file["searches"][result["search"].get<size_t>()];
    GenerateConfig config;
    config.max_new_tokens = search["max_new_tokens"];
    config.num_beams = search.value("num_beams", 1);
    config.length_penalty = search.value("length_penalty", 1.0);
    config.repetition_penalty = search.value("repetition_penalty", 1.0);
    config.stop_ids = result["stop_ids"].get<std::vector<int32_t>>();
    auto expected = result["new_ids"].get<std::vector<int32_t>>();
    if (std::find(config.stop_ids.begin(), config.stop_ids.end(), expected.back()) != config.stop_ids.end()) {
      expected.pop_back();
      ++ended;
    }
    const auto prompt = result["prompt"].get<std::vector<int32_t>>();
    EXPECT_EQ(generate({*loaded.model}, {prompt}, config)[0], expected) << result.dump() << search.dump();
  }
  EXPECT_GT(ended, 10);  // or stop tokens were not tested
}

}  // namespace
}  // namespace molt::eval

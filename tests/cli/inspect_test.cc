// molt inspect: models, adapters, runs, files, and things that are none of these.
#include <gtest/gtest.h>

#include "tests/cli/tiny.h"

namespace molt::test {
namespace {

const std::string kGolden = "tests/golden/mamba/tied_small/";

TEST(Inspect, ABaseModel) {
  const Ran ran = run_molt("inspect " + kGolden + "checkpoint");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(has(ran.out, "checkpoint: base model"));
  EXPECT_TRUE(has(ran.out, "2 layers, width D 16, inner width E 32, states N 4, convolution K 4, dt rank R 1"));
  EXPECT_TRUE(has(ran.out, "61 rows, head tied to the embedding"));
  EXPECT_TRUE(has(ran.out, "5,440"));
  EXPECT_TRUE(has(ran.out, "F32 5.44 k"));
  EXPECT_TRUE(has(ran.out, "none here"));  // no tokenizer
  // The same weights in shards have the same fingerprint.
  const size_t at = ran.out.find("m1-");
  ASSERT_NE(at, std::string::npos);
  EXPECT_TRUE(has(run_molt("inspect tests/golden/mamba/sharded/checkpoint").out, ran.out.substr(at, 19)));

  const Ran with_tokenizer = run_molt("inspect " + tiny_model());
  EXPECT_TRUE(has(with_tokenizer.out, "400 tokens, ends with <|endoftext|>"));
}

TEST(Inspect, AModelThatDoesNotFitItsConfig) {
  namespace fs = std::filesystem;
  const std::string broken = scratch().file("broken");
  fs::create_directories(broken);
  for (const char* name : {"config.json", "model.safetensors"})
    fs::copy_file(fs::path(MOLT_SOURCE_DIR) / kGolden / "checkpoint" / name, fs::path(broken) / name);
  std::ifstream in(broken + "/config.json");
  std::string config((std::istreambuf_iterator<char>(in)), {});
  const std::string key = "\"state_size\": 4";
  ASSERT_NE(config.find(key), std::string::npos);
  fs::permissions(broken + "/config.json", fs::perms::owner_write, fs::perm_options::add);
  std::ofstream(broken + "/config.json") << config.replace(config.find(key), key.size(), "\"state_size\": 5");
  const Ran ran = run_molt("inspect " + broken);
  EXPECT_EQ(ran.code, 2);
  EXPECT_TRUE(has(ran.err, "backbone.layers.1.mixer.A_log is (32, 4), config.json asks for (32, 5)"));
  EXPECT_EQ(line_count(ran.err), 4) << ran.err;  // A_log and x_proj of two layers

  std::ofstream(broken + "/config.json") << "{\"model_type\": \"gpt2\"}";
  const Ran other = run_molt("inspect " + broken);
  EXPECT_EQ(other.code, 2);
  EXPECT_TRUE(has(other.out, "gpt2 (not one Molt reads)"));
  EXPECT_TRUE(has(other.out, "F32 5.44 k"));
}

TEST(Inspect, WhatMlxAndLlamaCppKeep) {
  const std::string base = kGolden + "checkpoint", adapter = kGolden + "lora_basic/adapter";
  const std::string mlx = scratch().file("inspect_mlx"), gguf = scratch().file("inspect.gguf");
  ASSERT_EQ(run_molt("convert " + adapter + " --model " + base + " --to mlx --out " + mlx).code, 0);
  ASSERT_EQ(run_molt("convert " + adapter + " --model " + base + " --to gguf --out " + gguf).code, 0);
  const Ran of_mlx = run_molt("inspect " + mlx), of_gguf = run_molt("inspect " + gguf);
  EXPECT_EQ(of_mlx.code, 0) << of_mlx.err;
  EXPECT_TRUE(has(of_mlx.out, "inspect_mlx: mlx-lm adapter"));
  EXPECT_TRUE(has(of_mlx.out, "rank: 4"));
  EXPECT_TRUE(has(of_mlx.out, "lora_a (16, 4), lora_b (4, 64)"));
  EXPECT_EQ(of_gguf.code, 0) << of_gguf.err;
  EXPECT_TRUE(has(of_gguf.out, "inspect.gguf: GGUF adapter"));
  EXPECT_TRUE(has(of_gguf.out, "blk.{0,1}.ssm_in.weight "));
  EXPECT_TRUE(has(of_gguf.out, "lora_a (4, 16), lora_b (64, 4)"));
  const std::string model = scratch().file("inspect_model.gguf");
  ASSERT_EQ(run_molt("convert " + tiny_model() + " --to gguf --out " + model).code, 0);
  const Ran of_model = run_molt("inspect " + model);
  EXPECT_EQ(of_model.code, 0) << of_model.err;
  EXPECT_TRUE(has(of_model.out, "inspect_model.gguf: GGUF model"));
  EXPECT_TRUE(has(of_model.out, "[400 x string]"));
  const Ran broken = run_molt("inspect " + scratch().write("broken.gguf", "GGUF and no more"));
  EXPECT_EQ(broken.code, 2);
  EXPECT_EQ(line_count(broken.err), 1) << broken.err;
}

TEST(Inspect, PeersAdapters) {
  const Ran ran = run_molt("inspect " + kGolden + "lora_basic/adapter --model " + kGolden + "checkpoint");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(has(ran.out, "peft 0."));
  EXPECT_TRUE(has(ran.out, "backbone.layers.{0,1}.mixer.in_proj "));
  EXPECT_TRUE(has(ran.out, "lora_A.weight (4, 16), lora_B.weight (64, 4)"));  // each of two
  EXPECT_TRUE(has(ran.out, "640 "));                                          // 2 · 4 · (16 + 64)
  // r (in + out) with r = 4: in_proj 16 + 64, x_proj 32 + 9, dt_proj 1 + 32, in two layers.
  EXPECT_TRUE(has(ran.out, "lora: 6 sites in 2 of 2 layers, 1,232 trainable"));
  EXPECT_TRUE(has(ran.out, "dt_proj's part has no effect there"));

  const Ran dora = run_molt("inspect " + kGolden + "lora_dora/adapter");
  EXPECT_EQ(dora.code, 0) << dora.err;
  EXPECT_TRUE(has(dora.out, "use_dora"));
}

TEST(Inspect, OurAdapterOnItsBaseAndOnAnother) {
  const Ran ran = run_molt("inspect " + tiny_adapter_run() + "/adapter");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(has(ran.out, "sdt {criterion: a_log, freeze_channels: 0.99"));
  EXPECT_TRUE(has(ran.out, "peft reads it       no"));
  // LoRA, r = 4, two layers: x_proj:B 64 + 16, out_proj 64 + 32. SDT, one channel of 64, 4 of 16 states: 4 + 2 · 16.
  EXPECT_TRUE(has(ran.out, "lora: 4 sites in 2 of 2 layers, 1,408 trainable"));
  EXPECT_TRUE(has(ran.out, "sdt: 2 sites in 2 of 2 layers, 72 trainable"));

  const Ran other = run_molt("inspect " + tiny_adapter_run() + "/adapter --model " + kGolden + "checkpoint");
  EXPECT_EQ(other.code, 2);
  EXPECT_TRUE(has(other.err, "the adapter was trained on m1-"));
}

TEST(Inspect, ARun) {
  const Ran ran = run_molt("inspect " + tiny_adapter_run());
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(has(ran.out, "finished"));
  EXPECT_TRUE(has(ran.out, "5, "));  // 2 of the warm-up, 3 of training
  EXPECT_TRUE(has(ran.out, "warmup: a_log, warmup_steps: 2}"));
  EXPECT_TRUE(has(ran.out, "Best validation"));
  EXPECT_TRUE(has(ran.out, "after steps 2, 5"));
  EXPECT_TRUE(has(ran.out, "1,480 ("));
  const Ran again = run_molt("train " + tiny_adapter_run());
  EXPECT_EQ(again.code, 2);
  EXPECT_TRUE(has(again.err, "holds a run already")) << "its directory stands for its recipe";
}

TEST(Inspect, AFileOfTensors) {
  const Ran ran = run_molt("inspect " + kGolden + "checkpoint/model.safetensors");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(has(ran.out, "backbone.layers.{0,1}.mixer.A_log            F32    2 x (32, 4)         256  1.00 KiB"));
  EXPECT_TRUE(has(run_molt("inspect --all " + kGolden + "checkpoint/model.safetensors").out, "layers.1.mixer.A_log "));
  EXPECT_TRUE(has(run_molt("inspect tests/golden/mamba/original/bf16/pytorch_model.bin").out, "BF16"));
}

TEST(Inspect, NothingToInspect) {
  const std::string torn = scratch().write("torn.safetensors", "not a header");
  for (const auto& [path, text] : {std::pair<std::string, std::string>{"tests", "expected a base model"},
                                   {"no/such/path", "there is no such file"},
                                   {"README.md", "expected a directory, or a file of tensors"},
                                   {torn, "torn.safetensors"}}) {
    const Ran ran = run_molt("inspect " + path);
    EXPECT_EQ(ran.code, 2) << path;
    EXPECT_TRUE(has(ran.err, text));
    EXPECT_EQ(line_count(ran.err), 1) << ran.err;
    EXPECT_EQ(ran.out, "");
  }
}

}  // namespace
}  // namespace molt::test

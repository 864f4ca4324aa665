// Adapters between PEFT's, mlx-lm's and GGUF's forms: the meaning stays (transformers' golden logits), what a form
// cannot say is refused by name; a checkpoint in GGUF holds what llama.cpp wants.
#include "molt/app/convert.h"

#include <cmath>
#include <filesystem>
#include <fstream>

#include "molt/app/adapter.h"
#include "molt/app/methods.h"
#include "molt/base/file.h"
#include "molt/io/gguf.h"
#include "tests/cases/golden.h"
#include "tests/cases/moved_adapter.h"
#include "tests/cases/tuning.h"

namespace molt {
namespace {

namespace fs = std::filesystem;
using testing::golden_dir;
using testing::GoldenStream;
using testing::relative_error;

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

std::string checkpoint_of(const std::string& model) { return golden_dir(model) + "/checkpoint"; }

Tensor logits(const std::string& model, const std::string& adapter) {
  models::LoadedModel loaded = models::open_model(checkpoint_of(model), testing::all_in(Dtype::kF32));
  app::LoadedAdapter opened(adapter, loaded, Dtype::kF32);
  models::load_weights(loaded);
  opened.finish();
  nn::EditSet edits;
  opened.bind(edits);
  const GoldenStream stream{io::SafetensorsFile(golden_dir(model) + "/golden.safetensors")};
  const NoGrad no_grad;
  const nn::Context c{.segments = &stream.segments, .edits = &edits};
  return loaded.model->logits(c, loaded.model->hidden(c, stream.ids), stream.rows).value();
}

Tensor plain_logits(const std::string& model) {
  const testing::TunedModel plain(model, Dtype::kF32, {});
  return plain.base_logits(GoldenStream{io::SafetensorsFile(golden_dir(model) + "/golden.safetensors")});
}

class Convert : public ::testing::Test {
 protected:
  Convert() : dir_(fs::path(::testing::TempDir()) / ("molt_convert_" + std::to_string(::getpid()))) {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  ~Convert() override { fs::remove_all(dir_); }
  std::string out(const std::string& name) const { return (dir_ / name).string(); }
  std::string converted(const std::string& input, const std::string& to, const std::string& name,
                        const std::string& model) {
    app::convert({.input = input, .to = to, .out = out(name), .model = checkpoint_of(model)});
    return out(name);
  }
  std::string refusal(const app::ConvertOptions& options) {
    try {
      app::convert(options);
    } catch (const UsageError& error) {
      EXPECT_FALSE(fs::exists(options.out)) << options.out;
      return error.what();
    }
    return "converted";
  }
  /// A LoRA of Molt's own on tied_small, by its YAML.
  std::string saved(const std::string& yaml, Tensor* adapted = nullptr) {
    const std::string model = "tied_small";
    testing::MovedAdapter(models::open_model(checkpoint_of(model), testing::all_in(Dtype::kF32)), yaml, 0.02f)
        .save(out("own"), checkpoint_of(model));
    if (adapted) *adapted = logits(model, out("own"));
    return out("own");
  }
  fs::path dir_;
};

class ConvertGolden : public Convert,
                      public ::testing::WithParamInterface<std::tuple<const char*, const char*, const char*>> {};

// There and back again: transformers' logits at the end. f32 rounds where scales are folded in: 1e-5 as everywhere.
TEST_P(ConvertGolden, KeepsTheMeaning) {
  const auto [model, name, form] = GetParam();
  const std::string directory = golden_dir(std::string(model) + "/" + name);
  const std::string there = converted(directory + "/adapter", form, "there", model);
  const std::string back = converted(there, "peft", "back", model);
  const io::SafetensorsFile golden(directory + "/golden.safetensors");
  EXPECT_LT(relative_error(logits(model, back), golden.tensor("logits")), 1e-5);
  // And from one to the other.
  const std::string other = converted(there, std::string(form) == "mlx" ? "gguf" : "mlx", "other", model);
  EXPECT_LT(relative_error(logits(model, converted(other, "peft", "last", model)), golden.tensor("logits")), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Golden, ConvertGolden,
                         ::testing::Combine(::testing::Values("tied_small", "untied_odd"),
                                            ::testing::Values("lora_basic", "lora_honest", "lora_patterns",
                                                              "lora_regex", "lora_out_proj"),
                                            ::testing::Values("mlx", "gguf")),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param) + "_" +
                                  std::get<2>(info.param);
                         });

TEST_F(Convert, EmbeddingsOfAnUntiedHead) {
  const std::string directory = golden_dir("untied_odd/lora_embeddings");
  const io::SafetensorsFile golden(directory + "/golden.safetensors");
  for (const std::string form : {"mlx", "gguf"}) {
    const std::string there = converted(directory + "/adapter", form, "there_" + form, "untied_odd");
    const std::string back = converted(there, "peft", "back_" + form, "untied_odd");
    EXPECT_LT(relative_error(logits("untied_odd", back), golden.tensor("logits")), 1e-5) << form;
  }
  // (V, R): as llama.cpp gathers rows of it.
  const io::GgufFile file(out("there_gguf"));
  EXPECT_EQ(file.tensor("token_embd.weight.lora_a").dim(1), file.tensor("token_embd.weight.lora_b").dim(1));
}

TEST_F(Convert, DoraGoesToMlxAndBack) {
  for (const std::string model : {"tied_small", "untied_odd"}) {
    const std::string directory = golden_dir(model + "/lora_dora");
    const std::string there = converted(directory + "/adapter", "mlx", "there_" + model, model);
    const std::string back = converted(there, "peft", "back_" + model, model);
    const io::SafetensorsFile golden(directory + "/golden.safetensors");
    EXPECT_LT(relative_error(logits(model, back), golden.tensor("logits")), 1e-5) << model;
  }
  EXPECT_SAYS(refusal({.input = golden_dir("tied_small/lora_dora/adapter"),
                       .to = "gguf",
                       .out = out("x"),
                       .model = checkpoint_of("tied_small")}),
              "DoRA");
}

// Slices, ranks and alphas of their own, rsLoRA, two methods on one module: one padded pair each.
TEST_F(Convert, SlicesAndSeveralLorasBecomeWholePairs) {
  Tensor expected;
  const std::string adapter = saved(
      "[lora: {r: 3, lora_alpha: 5, use_rslora: true, target_modules: ['x_proj:B', 'x_proj:C', 'in_proj:x', dt_proj], "
      "alpha_pattern: {dt_proj: 7}}, lora: {r: 2, target_modules: [out_proj, in_proj]}]",
      &expected);
  for (const std::string form : {"peft", "mlx", "gguf"}) {
    const std::string there = converted(adapter, form, "there_" + form, "tied_small");
    const std::string back = converted(there, "peft", "back_" + form, "tied_small");
    EXPECT_LT(relative_error(logits("tied_small", back), expected), 1e-5) << form;
    EXPECT_FALSE(fs::exists(fs::path(back) / "molt.json"));
  }
  // mlx-lm: one rank, B padded with zeros outside its slice.
  const io::SafetensorsFile mlx(out("there_mlx") + "/adapters.safetensors");
  const Tensor a = mlx.tensor("backbone.layers.0.mixer.dt_proj.lora_a");
  EXPECT_EQ(a.dim(1), mlx.tensor("backbone.layers.0.mixer.in_proj.lora_a").dim(1));
}

TEST_F(Convert, PissaCarriesItsOrigin) {
  Tensor expected;
  const std::string adapter = saved("{lora: {r: 2, init_lora_weights: pissa, target_modules: [in_proj]}}", &expected);
  const std::string there = converted(adapter, "gguf", "there", "tied_small");
  EXPECT_LT(relative_error(logits("tied_small", converted(there, "peft", "back", "tied_small")), expected), 1e-5);
}

// Methods that are sums of low-rank pairs under another name: folded, the model is the same.
TEST_F(Convert, LowRankChangesUnderOtherNamesBecomeLora) {
  struct Folded {
    const char *yaml, *module;
    int64_t rank;
  };
  const std::string mixer = "base_model.model.backbone.layers.1.mixer.";
  for (const Folded& f : {
           Folded{"{xgblora: {rounds: 5, r: 2, lora_alpha: 3, round_layers: ['0 1', '0', '1', '1', '0'], "
                  "target_modules: [in_proj, 'x_proj:B']}}",
                  "in_proj", 6},
           // The fourth direction is off.
           Folded{"{adalora: {init_r: 5, target_r: 2, lora_alpha: 7, target_modules: [in_proj, out_proj]}}", "out_proj",
                  4},
           Folded{"{vera: {r: 6, target_modules: [in_proj, 'x_proj:B', 'x_proj:dt']}}", "in_proj", 6},
           Folded{"{loha: {r: 2, alpha: 3, target_modules: [in_proj, dt_proj]}}", "in_proj", 4},
           Folded{"{miss: {r: 5, target_modules: [in_proj, out_proj]}}", "in_proj", 5},
           Folded{"{diffora: {r: 2, lora_alpha: 3, keep: 1, warmup_steps: 2, target_modules: [in_proj, out_proj]}}",
                  "in_proj", 2},
           // Beside each other: ranks add up.
           Folded{"[lora: {r: 3, target_modules: [in_proj, x_proj]}, miss: {r: 4, target_modules: [in_proj]}]",
                  "in_proj", 7},
       }) {
    Tensor expected;
    const std::string adapter = saved(f.yaml, &expected);
    EXPECT_GT(relative_error(expected, plain_logits("tied_small")), 1e-3) << f.yaml;
    for (const std::string form : {"peft", "mlx", "gguf"}) {
      const std::string there = converted(adapter, form, "there_" + form, "tied_small");
      const std::string back = converted(there, "peft", "back_" + form, "tied_small");
      EXPECT_LT(relative_error(logits("tied_small", back), expected), 1e-5) << f.yaml << " " << form;
    }
    const io::AdapterFiles files = io::read_adapter(out("there_peft"));
    EXPECT_EQ(files.config.at("peft_type"), "LORA");
    int seen = 0;
    for (const auto& [name, tensor] : files.tensors) {
      if (name != mixer + f.module + ".lora_A.weight") continue;
      EXPECT_EQ(tensor.rows(), f.rank) << f.yaml;
      ++seen;
    }
    EXPECT_EQ(seen, 1) << f.yaml;
    for (const auto& entry : fs::directory_iterator(dir_)) fs::remove_all(entry.path());
  }
}

TEST_F(Convert, SloraTakesItsEarlierDirectionsAlong) {
  Tensor expected;
  fs::rename(saved("{lora: {r: 3, lora_alpha: 5, target_modules: [in_proj, out_proj]}}"), out("first"));
  const std::string adapter =
      saved("{slora: {r: 2, from: ['" + out("first") + "'], target_modules: [in_proj, out_proj]}}", &expected);
  const std::string there = converted(adapter, "gguf", "there", "tied_small");
  EXPECT_LT(relative_error(logits("tied_small", converted(there, "peft", "back", "tied_small")), expected), 1e-5);
  EXPECT_EQ(io::GgufFile(there).tensor("blk.0.ssm_in.weight.lora_a").dim(0), 5);
}

TEST_F(Convert, WhatAFormCannotSayIsRefusedByName) {
  const std::string base = checkpoint_of("tied_small");
  const auto of = [&](const std::string& yaml, const std::string& to) {
    fs::remove_all(out("own"));
    return refusal({.input = saved(yaml), .to = to, .out = out("x"), .model = base});
  };
  EXPECT_SAYS(of("{sdt: {warmup_steps: 1, freeze_channels: 0.5}}", "gguf"), "sdt");
  EXPECT_SAYS(of("{sdt: {warmup_steps: 1, freeze_channels: 0.5}}", "gguf"), "molt merge");
  EXPECT_SAYS(of("{lokr: {r: 2, target_modules: [in_proj]}}", "peft"), "lokr");
  EXPECT_SAYS(of("{ia3: {target_modules: [in_proj]}}", "mlx"), "ia3");
  EXPECT_SAYS(of("{full: {train: [A_log]}}", "peft"), "full");
  EXPECT_SAYS(of("{lora: {r: 2, target_modules: [conv1d]}}", "mlx"), "conv1d");
  EXPECT_SAYS(of("{lora: {r: 2, target_modules: [A_log]}}", "peft"), "A_log");
  EXPECT_SAYS(of("[lora: {r: 2, target_modules: [in_proj]}, bitfit: {}]", "gguf"), "bitfit");
  EXPECT_SAYS(of("{lora: {r: 2, target_modules: [embeddings]}}", "gguf"), "tied");
  EXPECT_SAYS(of("{lora: {r: 2, target_modules: [embeddings]}}", "mlx"), "tied");
}

TEST_F(Convert, WrongInputsAreRefused) {
  const std::string base = checkpoint_of("tied_small"), peft = golden_dir("tied_small/lora_basic/adapter");
  EXPECT_SAYS(refusal({.input = peft, .to = "onnx", .out = out("x"), .model = base}), "--to");
  EXPECT_SAYS(refusal({.input = out("nowhere"), .to = "mlx", .out = out("x"), .model = base}), "nowhere");
  EXPECT_SAYS(refusal({.input = dir_.string(), .to = "mlx", .out = out("x"), .model = base}), "adapter_config.json");
  EXPECT_SAYS(refusal({.input = peft, .to = "mlx", .out = out("x"), .model = checkpoint_of("untied_odd")}),
              "config asks for");
  EXPECT_SAYS(refusal({.input = base, .to = "mlx", .out = out("x")}), "checkpoint");
  EXPECT_SAYS(refusal({.input = base, .to = "gguf", .out = out("x"), .dtype = "q4"}), "q4");
  EXPECT_SAYS(refusal({.input = checkpoint_of("untied_odd"), .to = "gguf", .out = out("x")}), "inner width");
  EXPECT_SAYS(refusal({.input = base, .to = "gguf", .out = out("x")}), "tokenizer.json");
  // Nothing is overwritten.
  std::ofstream(out("there")) << "precious";
  try {
    app::convert({.input = peft, .to = "gguf", .out = out("there"), .model = base});
    ADD_FAILURE() << "overwritten";
  } catch (const UsageError& error) {
    EXPECT_SAYS(std::string(error.what()), "is there already");
  }
  EXPECT_EQ(read_file(out("there")), "precious");
  // GGUF files that are no adapter for this base.
  const auto gguf = [&](const io::GgufMetadata& metadata, const io::NamedTensors& tensors) {
    io::write_gguf(out("bad.gguf"), metadata, tensors);
    return refusal({.input = out("bad.gguf"), .to = "peft", .out = out("x"), .model = base});
  };
  const auto word = [](const char* w) { return io::GgufValue::text(w); };
  io::GgufMetadata good = {{"general.type", word("adapter")},
                           {"adapter.type", word("lora")},
                           {"general.architecture", word("mamba")},
                           {"adapter.lora.alpha", io::GgufValue::f32(4)}};
  const Tensor a = Tensor::zeros({2, 16}, Dtype::kF32), b = Tensor::zeros({64, 2}, Dtype::kF32);
  const std::string in = "blk.0.ssm_in.weight";
  EXPECT_EQ(gguf(good, {{in + ".lora_a", a}, {in + ".lora_b", b}}), "converted");
  fs::remove_all(out("x"));
  EXPECT_SAYS(gguf(good, {{in + ".lora_a", a}}), "no blk.0.ssm_in.weight.lora_b");
  EXPECT_SAYS(gguf(good, {{in + ".lora_a", a}, {in + ".lora_b", a}}), "asks for");
  EXPECT_SAYS(gguf(good, {{"blk.9.ssm_in.weight.lora_a", a}, {"blk.9.ssm_in.weight.lora_b", b}}), "another model");
  EXPECT_SAYS(gguf(good, {{"blk.0.attn_q.weight.lora_a", a}, {"blk.0.attn_q.weight.lora_b", b}}), "attn_q");
  EXPECT_SAYS(gguf(good, {{in + ".lora_a", a}, {in + ".lora_b", b}, {"output_norm.weight", a}}), "output_norm.weight");
  EXPECT_SAYS(gguf(good, {}), "no LoRA pair");
  Tensor nan = b.clone();
  nan.fill(NAN);
  EXPECT_SAYS(gguf(good, {{in + ".lora_a", a}, {in + ".lora_b", nan}}), "not finite");
  good[2].second = word("llama");
  EXPECT_SAYS(gguf(good, {{in + ".lora_a", a}, {in + ".lora_b", b}}), "llama");
  good[0].second = word("model");
  EXPECT_SAYS(gguf(good, {}), "not an adapter");
  // mlx-lm's.
  const std::string mlx = converted(peft, "mlx", "mlx", "tied_small"), config = mlx + "/adapter_config.json";
  const auto with_config = [&](const std::string& text) {
    std::ofstream(config) << text;
    return refusal({.input = mlx, .to = "peft", .out = out("x"), .model = base});
  };
  EXPECT_SAYS(with_config("[]"), "object");
  EXPECT_SAYS(with_config("{"), "adapter_config.json");
  EXPECT_SAYS(with_config("{}"), "lora_parameters");
  EXPECT_SAYS(with_config(R"({"lora_parameters": {"alpha": 3}})"), "scale");
  EXPECT_SAYS(with_config(R"({"fine_tune_type": "full"})"), "full");
  EXPECT_SAYS(with_config(R"({"fine_tune_type": "dora", "lora_parameters": {"scale": 3}})"), ".m is missing");
}

TEST_F(Convert, ACheckpointInGgufHoldsWhatLlamaCppWants) {
  const std::string base = MOLT_SOURCE_DIR "/examples/base";
  app::convert({.input = base, .to = "gguf", .out = out("base.gguf"), .dtype = "f16"});
  const io::GgufFile file(out("base.gguf"));
  const io::SafetensorsFile source(base + "/model.safetensors");
  EXPECT_EQ(file.text("general.architecture"), "mamba");
  EXPECT_EQ(file.text("tokenizer.ggml.model"), "gpt2");
  EXPECT_EQ(file.text("tokenizer.ggml.pre"), "olmo");
  EXPECT_EQ(file.number("mamba.block_count"), 8);
  EXPECT_EQ(file.number("mamba.ssm.inner_size"), 512);
  EXPECT_EQ(file.number("mamba.ssm.time_step_rank"), 16);
  EXPECT_FLOAT_EQ(static_cast<float>(file.number("mamba.attention.layer_norm_rms_epsilon")), 1e-5f);
  const auto tokens = file.metadata().at("tokenizer.ggml.tokens").texts;
  EXPECT_EQ(tokens.size(), 4096u);  // one per row of the embedding
  EXPECT_EQ(file.metadata().at("tokenizer.ggml.token_type").integers[0], 3);
  EXPECT_FALSE(file.has("output.weight"));  // the head is tied
  const auto log = source.tensor("backbone.layers.3.mixer.A_log").values(), a = file.tensor("blk.3.ssm_a").values();
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], -std::exp(log[i]), 1e-6 * std::abs(a[i]));
  EXPECT_EQ(file.tensor("blk.3.ssm_conv1d.weight").shape(), (Shape{512, 4}));
  EXPECT_EQ(file.tensor("blk.3.ssm_conv1d.weight").dtype(), Dtype::kF32);
  EXPECT_EQ(file.tensor("blk.3.ssm_in.weight").dtype(), Dtype::kF16);
  EXPECT_EQ(file.tensor("blk.3.attn_norm.weight").dtype(), Dtype::kF32);
  EXPECT_EQ(file.tensor("blk.3.ssm_d").values(), source.tensor("backbone.layers.3.mixer.D").values());
  EXPECT_EQ(file.tensor("token_embd.weight").values(),
            source.tensor("backbone.embeddings.weight").to(Dtype::kF16).values());
}

}  // namespace
}  // namespace molt

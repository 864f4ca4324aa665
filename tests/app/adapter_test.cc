// Adapters as the program opens them: peft's own against transformers' logits; which ones are refused, and how.
#include "molt/app/adapter.h"

#include <filesystem>
#include <fstream>

#include "molt/app/methods.h"
#include "molt/base/file.h"
#include "tests/cases/golden.h"
#include "tests/cases/moved_adapter.h"

namespace molt {
namespace {

namespace fs = std::filesystem;
using testing::golden_dir;
using testing::GoldenStream;
using testing::relative_error;

/// A base with an adapter on it, opened in the order the program uses.
struct Opened {
  Opened(const std::string& checkpoint, const std::string& adapter_directory, Dtype dtype)
      : loaded(models::open_model(checkpoint, testing::all_in(dtype))), adapter(adapter_directory, loaded, dtype) {
    models::load_weights(loaded);
    adapter.finish();
    adapter.bind(edits);
  }
  Tensor logits(const GoldenStream& stream) const {
    const NoGrad no_grad;
    const nn::Context c{.segments = &stream.segments, .edits = &edits};
    return loaded.model->logits(c, loaded.model->hidden(c, stream.ids), stream.rows).value();
  }

  models::LoadedModel loaded;
  app::LoadedAdapter adapter;
  nn::EditSet edits;
};

std::string checkpoint_of(const std::string& model) { return golden_dir(model) + "/checkpoint"; }

/// What opening says, or "opened".
std::string refusal(const std::string& checkpoint, const std::string& adapter) {
  try {
    Opened(checkpoint, adapter, Dtype::kF32);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "opened";
}

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

class PeftAdapter : public ::testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(PeftAdapter, GivesTheGoldenLogits) {
  const auto [model, name] = GetParam();
  const std::string directory = golden_dir(std::string(model) + "/" + name);
  const io::SafetensorsFile golden(directory + "/golden.safetensors");
  const GoldenStream stream{io::SafetensorsFile(golden_dir(model) + "/golden.safetensors")};
  // f64: the stored logits were rounded to f32.
  EXPECT_LT(relative_error(Opened(checkpoint_of(model), directory + "/adapter", Dtype::kF64).logits(stream),
                           golden.tensor("logits")),
            1e-7);
  EXPECT_LT(relative_error(Opened(checkpoint_of(model), directory + "/adapter", Dtype::kF32).logits(stream),
                           golden.tensor("logits")),
            1e-5);
}

INSTANTIATE_TEST_SUITE_P(
    Golden, PeftAdapter,
    ::testing::Combine(::testing::Values("tied_small", "untied_odd"),
                       ::testing::Values("lora_basic", "lora_honest", "lora_patterns", "lora_regex", "lora_out_proj",
                                         "lora_dora", "lora_embeddings")),
    [](const auto& info) { return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param); });

TEST(PeftAdapters, OfAModelOfAnotherShapeAreRefused) {
  EXPECT_SAYS(refusal(checkpoint_of("untied_odd"), golden_dir("tied_small/lora_honest/adapter")), "lora_honest");
}

/// A directory that goes with its test.
class OwnAdapter : public ::testing::Test {
 protected:
  OwnAdapter() : dir_(fs::path(::testing::TempDir()) / ("molt_adapter_" + std::to_string(::getpid()))) {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  ~OwnAdapter() override { fs::remove_all(dir_); }

  /// Methods on a golden base, moved a little away from nothing, and saved.
  std::string saved(const std::string& model, const std::string& yaml, Tensor* logits = nullptr) {
    testing::MovedAdapter moved(models::open_model(checkpoint_of(model), testing::all_in(Dtype::kF32)), yaml, 0.01f);
    if (logits) {
      const GoldenStream stream{io::SafetensorsFile(golden_dir(model) + "/golden.safetensors")};
      const NoGrad no_grad;
      const nn::Context c{.segments = &stream.segments, .edits = &moved.edits};
      const nn::LanguageModel& language = *moved.base.model;
      *logits = language.logits(c, language.hidden(c, stream.ids), stream.rows).value();
    }
    const std::string directory = (dir_ / "adapter").string();
    moved.save(directory, checkpoint_of(model));
    return directory;
  }
  void write(const std::string& name, const std::string& text) { std::ofstream(dir_ / "adapter" / name) << text; }

  fs::path dir_;
};

TEST_F(OwnAdapter, ComesBackWithTheSameBits) {
  Tensor expected;
  const std::string adapter = saved(
      "tied_small", "[lora: {r: 3, target_modules: ['x_proj:B', in_proj]}, lora: {r: 2, target_modules: [out_proj]}]",
      &expected);
  const GoldenStream stream{io::SafetensorsFile(golden_dir("tied_small") + "/golden.safetensors")};
  EXPECT_EQ(Opened(checkpoint_of("tied_small"), adapter, Dtype::kF32).logits(stream).values(), expected.values());
}

TEST_F(OwnAdapter, OfAnotherBaseIsRefusedByFingerprint) {
  const std::string adapter = saved("tied_small", "{lora: {r: 2, target_modules: [in_proj]}}");
  EXPECT_EQ(refusal(checkpoint_of("tied_small"), adapter), "opened");
  EXPECT_SAYS(refusal(checkpoint_of("untied_odd"), adapter), "another base");
  // The same shapes, one number changed.
  const fs::path copy = dir_ / "base";
  fs::copy(checkpoint_of("tied_small"), copy);
  fs::permissions(copy / "model.safetensors", fs::perms::owner_write, fs::perm_options::add);
  std::fstream file(copy / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-4, std::ios::end);
  const float other = 0.4711f;
  file.write(reinterpret_cast<const char*>(&other), 4);
  file.close();
  EXPECT_SAYS(refusal(copy.string(), adapter), "another base");
}

TEST_F(OwnAdapter, ToGoOnFromMustBeOfTheSameBase) {
  const std::string adapter = saved("tied_small", "{lora: {r: 2, target_modules: [in_proj]}}");
  const auto methods =
      app::read_methods(app::YamlNode::parse("{slora: {from: [" + adapter + "]}, lora: {r: 2}}", "test"));
  const auto says = [&](const std::string& model) -> std::string {
    try {
      app::check_earlier_adapters(methods, models::open_model(checkpoint_of(model), testing::all_in(Dtype::kF32)));
    } catch (const UsageError& error) {
      return error.what();
    }
    return "fits";
  };
  EXPECT_EQ(says("tied_small"), "fits");
  EXPECT_SAYS(says("untied_odd"), "another base");
  fs::remove(fs::path(adapter) / "molt.json");  // as a peer's, which does not say of what base it is
  EXPECT_EQ(says("untied_odd"), "fits");
}

TEST_F(OwnAdapter, HalfWrittenOrForeignFilesAreNamed) {
  const std::string base = checkpoint_of("tied_small");
  const std::string adapter = saved("tied_small", "{lora: {r: 2, target_modules: [in_proj]}}");
  const std::string config = read_file(adapter + "/adapter_config.json"), molt = read_file(adapter + "/molt.json");
  write("molt.json", R"({"format": 99, "methods": []})");
  EXPECT_SAYS(refusal(base, adapter), "format");
  write("molt.json", R"({"format": 1, "methods": [{"method": "magic"}]})");
  EXPECT_SAYS(refusal(base, adapter), "magic");
  write("molt.json", R"({"format": 1, "methods": [7]})");
  EXPECT_SAYS(refusal(base, adapter), "molt.json");
  write("molt.json", R"({"format": 1, "methods": [{"method": 3}], "base_fingerprint": 4})");
  EXPECT_SAYS(refusal(base, adapter), "molt.json");
  write("molt.json", "{");
  EXPECT_SAYS(refusal(base, adapter), "molt.json");
  write("molt.json", molt);
  write("adapter_config.json", "[]");
  EXPECT_SAYS(refusal(base, adapter), "adapter_config.json");
  fs::remove(fs::path(adapter) / "adapter_config.json");
  EXPECT_SAYS(refusal(base, adapter), "adapter_config.json");
  write("adapter_config.json", config);
  EXPECT_EQ(refusal(base, adapter), "opened");
  fs::resize_file(fs::path(adapter) / "adapter_model.safetensors", 100);
  EXPECT_SAYS(refusal(base, adapter), "adapter_model.safetensors");
  EXPECT_SAYS(refusal(base, (dir_ / "nowhere").string()), "nowhere");
}

// A recipe with such a pattern is refused; peers ignore it, and what they wrote is to be used.
TEST_F(OwnAdapter, PatternsOfPeersMayMatchNothing) {
  const std::string adapter = saved("tied_small", "{lora: {r: 2, target_modules: [in_proj]}}");
  fs::remove(fs::path(adapter) / "molt.json");
  Json config = read_json_file(adapter + "/adapter_config.json");
  config["rank_pattern"] = {{"nothing_like_it", 7}};
  write("adapter_config.json", config.dump());
  EXPECT_EQ(refusal(checkpoint_of("tied_small"), adapter), "opened");
}

TEST_F(OwnAdapter, ConfigsOfPeersWithOddTypesAreRefused) {
  const std::string adapter = saved("tied_small", "{lora: {r: 2, target_modules: [in_proj]}}");
  fs::remove(fs::path(adapter) / "molt.json");
  const Json config = read_json_file(adapter + "/adapter_config.json");
  EXPECT_EQ(refusal(checkpoint_of("tied_small"), adapter), "opened");
  const std::pair<const char*, Json> changes[] = {{"peft_type", "XLORA"},
                                                  {"peft_type", 3},
                                                  {"r", "four"},
                                                  {"target_modules", 7},
                                                  {"target_modules", {"nothing_like_it"}},
                                                  {"bias", "all"},
                                                  {"bias", 1},
                                                  {"rank_pattern", 5},
                                                  {"layers_to_transform", {0}}};
  for (const auto& [key, value] : changes) {
    Json changed = config;
    changed[key] = value;
    write("adapter_config.json", changed.dump());
    const std::string said = refusal(checkpoint_of("tied_small"), adapter);
    EXPECT_NE(said, "opened") << key << " " << value;
    EXPECT_EQ(said.find('\n'), std::string::npos) << said;
  }
}

}  // namespace
}  // namespace molt

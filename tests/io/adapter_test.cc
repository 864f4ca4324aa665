// Adapter directories: written and read back, replaced whole, refused when half there; PEFT's key spelling.
#include "molt/io/adapter.h"

#include "tests/io/fixtures.h"

namespace molt::io {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryDirectory;
using testing::usage_error_of;
namespace pickle = testing::pickle;

AdapterFiles sample(double rank) {
  AdapterFiles adapter;
  adapter.config = {{"peft_type", "LORA"}, {"r", rank}, {"target_modules", {"in_proj"}}};
  adapter.tensors = {{peft_key("layers.0.in_proj", "lora_A.weight"), Tensor::from<float>({1, 2}, {1, 2})},
                     {peft_key("layers.0.in_proj", "lora_B.weight"), Tensor::from<float>({3, 4}, {2, 1})}};
  return adapter;
}

void expect_same(const AdapterFiles& a, const AdapterFiles& b) {
  EXPECT_EQ(a.config, b.config);
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (size_t i = 0; i < a.tensors.size(); ++i) {
    EXPECT_EQ(a.tensors[i].first, b.tensors[i].first);
    EXPECT_EQ(a.tensors[i].second.shape(), b.tensors[i].second.shape());
    EXPECT_EQ(a.tensors[i].second.values(), b.tensors[i].second.values());
  }
}

size_t entries(const std::string& directory) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(directory), fs::directory_iterator{}));
}

TEST(Adapter, RoundTripsIntoNewAndExistingDirectories) {
  const TemporaryDirectory d;
  const std::string path = d.file("runs/1/adapter");
  write_adapter(path, sample(8));
  expect_same(read_adapter(path), sample(8));
  EXPECT_EQ(entries(path), 2u);
  EXPECT_EQ(SafetensorsFile(path + "/adapter_model.safetensors").metadata().at("format"), "pt");

  // Replacing keeps other files, drops a torch file that would now be stale, and leaves nothing temporary.
  d.write("runs/1/adapter/README.md", "mine");
  d.write("runs/1/adapter/adapter_model.bin", "old");
  const AdapterFiles old = read_adapter(path);
  write_adapter(path + "/", sample(16));
  expect_same(read_adapter(path), sample(16));
  EXPECT_EQ(entries(path), 3u);
  EXPECT_EQ(read_file(path + "/README.md"), "mine");
  EXPECT_EQ(old.tensors[0].second.values(), (std::vector<double>{1, 2})) << "views of the replaced file stay valid";

  write_adapter(d.path(), sample(4));  // a directory that exists without an adapter
  expect_same(read_adapter(d.path()), sample(4));
}

TEST(Adapter, FailedWritesLeaveTheOldAdapter) {
  const TemporaryDirectory d;
  const std::string path = d.file("adapter");
  write_adapter(path, sample(8));
  AdapterFiles bad = sample(16);
  bad.tensors.emplace_back("__metadata__", Tensor::zeros({1}, Dtype::kF32));
  EXPECT_THROW(write_adapter(path, bad), UsageError);
  EXPECT_THROW(write_adapter(d.file("new"), bad), UsageError);
  expect_same(read_adapter(path), sample(8));
  EXPECT_EQ(entries(path), 2u);
  EXPECT_EQ(entries(d.path()), 1u);
  EXPECT_THROW(write_adapter(path + "/adapter_config.json", sample(8)), UsageError);
}

TEST(Adapter, ReadsTorchFiles) {
  const TemporaryDirectory d;
  d.write("adapter_config.json", R"({"peft_type": "LORA"})");
  const std::string key = peft_key("layers.0.in_proj", "lora_A.weight");
  d.write("adapter_model.bin",
          testing::torch_file(pickle::state_dict({{key, "FloatStorage", "0", 2, 0, {1, 2}, {2, 1}}}),
                              {{"0", testing::raw_bytes<float>({1, 2})}}));
  const AdapterFiles adapter = read_adapter(d.path());
  ASSERT_EQ(adapter.tensors.size(), 1u);
  EXPECT_EQ(adapter.tensors[0].first, key);
  EXPECT_EQ(adapter.tensors[0].second.values(), (std::vector<double>{1, 2}));
}

TEST(Adapter, ReadsWhatPeftWrote) {
  const std::string golden = std::string(MOLT_SOURCE_DIR) + "/tests/golden/mamba/";
  int count = 0;
  for (const auto& item : fs::recursive_directory_iterator(golden)) {
    if (item.path().filename() != "adapter_config.json") continue;
    const AdapterFiles adapter = read_adapter(item.path().parent_path().string());
    EXPECT_EQ(adapter.config.at("peft_type"), "LORA");
    for (const auto& [key, tensor] : adapter.tensors) {
      const auto split = split_peft_key(key);
      ASSERT_TRUE(split) << key;
      EXPECT_EQ(split->suffix.substr(0, 5), "lora_") << key;
      EXPECT_EQ(peft_key(split->module, split->suffix), key);
    }
    ++count;
  }
  EXPECT_GE(count, 7);
}

TEST(Adapter, SaysWhatIsMissing) {
  const auto message = [](const std::string& path) { return usage_error_of([&] { (void)read_adapter(path); }); };
  const TemporaryDirectory d;
  EXPECT_HAS(message(d.file("none")), "there is none");
  EXPECT_HAS(message(d.path()), "interrupted");
  write_adapter(d.file("checkpoints/default"), sample(8));
  EXPECT_HAS(message(d.file("checkpoints")), "default");
  EXPECT_HAS(message(d.file("checkpoints/default/adapter_config.json")), "found a file");
  fs::remove(d.file("checkpoints/default/adapter_model.safetensors"));
  EXPECT_HAS(message(d.file("checkpoints/default")), "neither");
  d.write("checkpoints/default/adapter_config.json", "3");
  EXPECT_HAS(message(d.file("checkpoints/default")), "JSON object");
}

TEST(Adapter, KeysSplitIntoModuleAndSuffix) {
  struct Case {
    const char *module, *suffix;
  };
  const Case cases[] = {
      {"backbone.layers.0.mixer.in_proj", "lora_A.weight"},
      {"backbone.layers.0.mixer.in_proj", "lora_B.weight"},
      {"backbone.layers.0.mixer.in_proj", "lora_B.bias"},
      {"backbone.layers.0.mixer.in_proj", "lora_magnitude_vector"},
      {"backbone.layers.0.mixer.in_proj", "base_layer.bias"},
      {"backbone.layers.0.mixer.in_proj", "ia3_l"},
      {"backbone.embeddings", "lora_embedding_A"},
      {"backbone.embeddings", "token_adapter.trainable_tokens_delta"},
      {"lm_head", "weight"},
      {"backbone.layers.0.mixer", "A_log"},
      {"", "prompt_embeddings"},
  };
  for (const Case& c : cases) {
    const std::string key = peft_key(c.module, c.suffix);
    const auto split = split_peft_key(key);
    ASSERT_TRUE(split) << key;
    EXPECT_EQ(split->module, c.module) << key;
    EXPECT_EQ(split->suffix, c.suffix) << key;
  }
  EXPECT_EQ(peft_key("m.in_proj", "lora_A.weight"), "base_model.model.m.in_proj.lora_A.weight");
  EXPECT_EQ(split_peft_key("base_model.model.m.in_proj.lora_A.default.weight")->suffix, "lora_A.weight");
  for (const char* bad :
       {"", "weight", "m.in_proj.lora_A.weight", "base_model.model.", "base_model.model.x", "base_model.model.x."}) {
    EXPECT_FALSE(split_peft_key(bad)) << bad;
  }
}

}  // namespace
}  // namespace molt::io

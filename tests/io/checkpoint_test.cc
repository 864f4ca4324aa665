// Checkpoint directories in every layout, their fingerprint, and what the user is told when one is not right.
#include "molt/io/checkpoint.h"

#include "molt/io/fingerprint.h"
#include "molt/io/safetensors.h"
#include "tests/io/fixtures.h"

namespace molt::io {
namespace {

using testing::raw_bytes;
using testing::TemporaryDirectory;
using testing::usage_error_of;
namespace pickle = testing::pickle;

const char* const kConfig =
    R"({"model_type": "mamba", "layer_norm_epsilon": 1e-5, "time_step_limit": [0.0, Infinity]})";

std::vector<float> numbers(int64_t n, float scale) {
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i) values.push_back(static_cast<float>(i % 1009) * scale);
  return values;
}

/// A model of three tensors: an embedding larger than a fingerprint's sample, a matrix, a vector.
struct Model {
  std::vector<float> embeddings = numbers(60 * 40, 0.5f), matrix = numbers(12, 0.25f), norm = {1, 1, 1, 1};

  NamedTensors tensors() const {
    return {{"backbone.embeddings.weight", Tensor::from(embeddings, {60, 40})},
            {"backbone.layers.0.in_proj.weight", Tensor::from(matrix, {3, 4})},
            {"backbone.norm_f.weight", Tensor::from(norm, {4})}};
  }
  void write_single(const TemporaryDirectory& d, const char* config = kConfig) const {
    d.write("config.json", config);
    write_safetensors(d.file("model.safetensors"), tensors());
  }
  void write_sharded(const TemporaryDirectory& d) const {
    d.write("config.json", kConfig);
    const NamedTensors t = tensors();
    write_safetensors(d.file("model-00001-of-00002.safetensors"), {t[0]});
    write_safetensors(d.file("model-00002-of-00002.safetensors"), {t[1], t[2]});
    d.write("model.safetensors.index.json", R"({"metadata": {"total_size": 9664}, "weight_map": {
      "backbone.embeddings.weight": "model-00001-of-00002.safetensors",
      "backbone.layers.0.in_proj.weight": "model-00002-of-00002.safetensors",
      "backbone.norm_f.weight": "model-00002-of-00002.safetensors"}})");
  }
  /// As torch.save(model.state_dict()) would: with the tied head, here with the matrix stored transposed.
  void write_torch(const TemporaryDirectory& d, bool tied_head = true) const {
    d.write("config.json", kConfig);
    std::vector<float> transposed;
    for (size_t c = 0; c < 4; ++c) {
      for (size_t r = 0; r < 3; ++r) transposed.push_back(matrix[r * 4 + c]);
    }
    std::vector<pickle::View> views{{"backbone.embeddings.weight", "FloatStorage", "0", 2400, 0, {60, 40}, {40, 1}},
                                    {"backbone.layers.0.in_proj.weight", "FloatStorage", "1", 12, 0, {3, 4}, {1, 3}},
                                    {"backbone.norm_f.weight", "FloatStorage", "2", 4, 0, {4}, {1}}};
    if (tied_head) views.push_back({"lm_head.weight", "FloatStorage", "0", 2400, 0, {60, 40}, {40, 1}});
    d.write("pytorch_model.bin",
            testing::torch_file(pickle::state_dict(views),
                                {{"0", raw_bytes(embeddings)}, {"1", raw_bytes(transposed)}, {"2", raw_bytes(norm)}}));
  }
};

TEST(Checkpoint, AllLayoutsGiveTheSameTensorsAndTheSameFingerprint) {
  const Model model;
  const TemporaryDirectory single, sharded, torch;
  model.write_single(single);
  model.write_sharded(sharded);
  model.write_torch(torch);
  const Checkpoint a(single.path()), b(sharded.path()), c(torch.path());
  EXPECT_EQ(a.names(), b.names());
  EXPECT_EQ(a.files().size(), 1u);
  EXPECT_EQ(b.files().size(), 2u);
  EXPECT_TRUE(c.has("lm_head.weight"));
  for (const auto& [name, tensor] : model.tensors()) {
    for (const Checkpoint* checkpoint : {&a, &b, &c}) {
      EXPECT_TRUE(checkpoint->has(name));
      EXPECT_EQ(checkpoint->info(name).shape, tensor.shape());
      EXPECT_EQ(checkpoint->tensor(name).values(), tensor.values()) << name;
    }
  }
  EXPECT_EQ(a.config().at("model_type"), "mamba");
  EXPECT_EQ(base_fingerprint(a), base_fingerprint(b));
  EXPECT_EQ(base_fingerprint(a), base_fingerprint(c)) << "a tied head must not count";
  EXPECT_EQ(base_fingerprint(a).substr(0, 3), "m1-");
  EXPECT_EQ(base_fingerprint(a).size(), 19u);
}

TEST(Fingerprint, NoticesEveryChangeThatMatters) {
  const Model model;
  const auto of = [](const Model& m, const char* config = kConfig) {
    const TemporaryDirectory d;
    m.write_single(d, config);
    return base_fingerprint(Checkpoint(d.path()));
  };
  const std::string base = of(model);
  for (const size_t i : {size_t{0}, size_t{127}, size_t{2399}}) {  // the first piece of 512 bytes, and the last number
    Model changed;
    changed.embeddings[i] += 0.25f;
    EXPECT_NE(of(changed), base) << i;
  }
  Model changed;
  changed.matrix[7] += 0.25f;
  EXPECT_NE(of(changed), base);
  EXPECT_NE(of(model, R"({"model_type": "mamba", "layer_norm_epsilon": 1e-6, "time_step_limit": [0, Infinity]})"),
            base);
  // The same in other words, and with entries that only matter for training.
  EXPECT_EQ(of(model, R"({"time_step_limit": [0, {"__float__": "Infinity"}], "layer_norm_epsilon": 0.00001,
                          "model_type": "mamba", "transformers_version": "5", "use_cache": false, "head_dim": null})"),
            base);
}

TEST(Fingerprint, CountsAnUntiedHeadNamesShapesAndDtypes) {
  const auto of = [](const NamedTensors& tensors) {
    const TemporaryDirectory d;
    write_safetensors(d.file("model.safetensors"), tensors);
    return base_fingerprint(Checkpoint(d.path()));
  };
  const Tensor t = Tensor::from<float>({1, 2, 3, 4}, {2, 2}), head = Tensor::from<float>({5, 6, 7, 8}, {2, 2});
  const std::string base = of({{"a", t}});
  EXPECT_NE(of({{"b", t}}), base);
  EXPECT_NE(of({{"a", t.reshape({4})}}), base);
  EXPECT_NE(of({{"a", t.to(Dtype::kBf16)}}), base);
  EXPECT_NE(of({{"a", t}, {"lm_head.weight", head}}), base);
  EXPECT_EQ(of({{"a", t}, {"lm_head.weight", t}}), base);
}

// The published values of FNV-1a, 64 bits, so that fingerprints stay what they are.
TEST(Fingerprint, HashIsFnv1a) {
  const auto of = [](std::string_view text) {
    Fnv1a hash;
    hash.bytes(text.data(), text.size());
    return hash.value();
  };
  EXPECT_EQ(of(""), 0xcbf29ce484222325u);
  EXPECT_EQ(of("a"), 0xaf63dc4c8601ec8cu);
  EXPECT_EQ(of("foobar"), 0x85944171f73967e8u);
}

TEST(Checkpoint, ReadsShardsOfTransformersAndTheOriginalLayout) {
  const std::string golden = std::string(MOLT_SOURCE_DIR) + "/tests/golden/mamba/";
  const Checkpoint single(golden + "tied_small/checkpoint"), sharded(golden + "sharded/checkpoint");
  EXPECT_EQ(sharded.files().size(), 4u);
  EXPECT_EQ(single.names(), sharded.names());
  EXPECT_EQ(base_fingerprint(single), base_fingerprint(sharded));
  const Checkpoint original(golden + "original/f32"), bf16(golden + "original/bf16");
  EXPECT_EQ(original.config().at("d_model"), 16);
  EXPECT_EQ(original.tensor("lm_head.weight").raw(), original.tensor("backbone.embedding.weight").raw());
  EXPECT_EQ(original.tensor("backbone.layers.0.mixer.A_log").values(),
            single.tensor("backbone.layers.0.mixer.A_log").values());
  EXPECT_NE(base_fingerprint(original), base_fingerprint(bf16));
  const Tensor wide = single.tensor("backbone.layers.1.mixer.in_proj.weight");
  EXPECT_EQ(bf16.tensor("backbone.layers.1.mixer.in_proj.weight").values(), wide.to(Dtype::kBf16).values());
}

TEST(Checkpoint, SafetensorsGoBeforeTorch) {
  const TemporaryDirectory d;
  Model().write_single(d);
  d.write("pytorch_model.bin", "not even a zip");
  EXPECT_EQ(Checkpoint(d.path()).files(), std::vector<std::string>{d.file("model.safetensors")});
}

TEST(Checkpoint, ReadsPythonsInfinity) {
  const TemporaryDirectory d;
  const std::string path = d.write("config.json", R"({"a": [0.0, Infinity, -Infinity], "b": NaN,
    "c": "Infinity \" NaN", "d": {"__float__": "-Infinity"}, "e": {"__float__": "NaN"}})");
  const Json json = read_python_json(path);
  constexpr double kLargest = std::numeric_limits<double>::max();
  EXPECT_EQ(json["a"], Json({0.0, kLargest, -kLargest}));
  EXPECT_TRUE(json["b"].is_null());
  EXPECT_EQ(json["c"], "Infinity \" NaN");
  EXPECT_EQ(json["d"], -kLargest);
  EXPECT_TRUE(json["e"].is_null());
}

TEST(Checkpoint, SaysWhatWasExpected) {
  const auto message = [](const std::string& path) { return usage_error_of([&] { Checkpoint c(path); }); };
  EXPECT_HAS(message("state-spaces/mamba-130m-hf"), "hf download state-spaces/mamba-130m-hf --local-dir mamba-130m-hf");
  EXPECT_HAS(message("/no/such/place"), "no such directory");
  EXPECT_EQ(message("/no/such/place").find("hf download"), std::string::npos);
  {
    const TemporaryDirectory d;
    EXPECT_HAS(message(d.path()), "holds no model");
    EXPECT_HAS(message(d.write("model.safetensors", "")), "is a file");
    EXPECT_HAS(message(d.path()), "0 bytes");
  }
  {
    const TemporaryDirectory d;
    d.write("adapter_config.json", "{}");
    EXPECT_HAS(message(d.path()), "adapter");
  }
  {
    const TemporaryDirectory d;
    d.write("model-q8.gguf", "");
    EXPECT_HAS(message(d.path()), "model-q8.gguf");
  }
  {
    const TemporaryDirectory d;
    Model().write_single(d);
    Model().write_sharded(d);
    EXPECT_HAS(message(d.path()), "both model.safetensors and model.safetensors.index.json");
  }
  {
    const TemporaryDirectory d;
    Model().write_single(d, "[1]");
    EXPECT_HAS(message(d.path()), "config.json: expected a JSON object");
  }
  {
    const TemporaryDirectory d;
    Model().write_single(d);
    std::filesystem::remove(d.file("config.json"));
    const Checkpoint checkpoint(d.path());
    EXPECT_FALSE(checkpoint.has_config());
    EXPECT_HAS(usage_error_of([&] { (void)checkpoint.config(); }), "config.json: missing");
    EXPECT_HAS(usage_error_of([&] { (void)checkpoint.tensor("x"); }), "no tensor 'x'");
  }
}

TEST(Checkpoint, ChecksTheIndex) {
  const auto message = [](const std::string& index) {
    const TemporaryDirectory d;
    Model().write_sharded(d);
    d.write("model.safetensors.index.json", index);
    return usage_error_of([&] { Checkpoint c(d.path()); });
  };
  EXPECT_HAS(message("{"), "not valid JSON");
  EXPECT_HAS(message("[]"), "weight_map");
  EXPECT_HAS(message(R"({"weight_map": []})"), "weight_map");
  EXPECT_HAS(message(R"({"weight_map": {"a": 3}})"), "'a'");
  EXPECT_HAS(message(R"({"weight_map": {"a": "../../etc/passwd"}})"), "beside the index");
  EXPECT_HAS(message(R"({"weight_map": {"a": "model-00003-of-00003.safetensors"}})"), "1 of 1 shards missing");
  EXPECT_HAS(message(R"({"weight_map": {"a": "model-00001-of-00002.safetensors"}})"), "'a' should be in");
}

TEST(Checkpoint, TensorsTheIndexForgetsAreFound) {
  const TemporaryDirectory d;
  Model().write_sharded(d);
  d.write("model.safetensors.index.json", R"({"weight_map": {
    "backbone.embeddings.weight": "model-00001-of-00002.safetensors",
    "backbone.norm_f.weight": "model-00002-of-00002.safetensors"}})");
  EXPECT_TRUE(Checkpoint(d.path()).has("backbone.layers.0.in_proj.weight"));
}

}  // namespace
}  // namespace molt::io

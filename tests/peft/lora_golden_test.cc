// LoRA against peft's adapters: logits, gradients and merged weights. Not among the cases, because Lora does not do
// them: lora_embeddings (the look-up is adapted) and lora_dora.
#include "tests/cases/peft_files.h"

namespace molt {
namespace {

using testing::file_key;
using testing::golden_dir;
using testing::GoldenStream;
using testing::relative_error;
using testing::TunedModel;

class LoraGolden : public ::testing::TestWithParam<std::tuple<const char*, const char*>> {
 protected:
  std::string model() const { return std::get<0>(GetParam()); }
  std::string directory() const { return golden_dir(model() + "/" + std::get<1>(GetParam())); }

  const io::AdapterFiles adapter = io::read_adapter(directory() + "/adapter");
  const io::SafetensorsFile golden{directory() + "/golden.safetensors"};
  const GoldenStream stream{io::SafetensorsFile(golden_dir(model()) + "/golden.safetensors")};

  /// The golden model with the adapter in it.
  TunedModel tuned(Dtype dtype) const {
    TunedModel tuned(model(), dtype, {testing::make_lora(testing::lora_config(adapter.config))});
    tuned.method().load_state(adapter.tensors);
    return tuned;
  }
};

TEST_P(LoraGolden, Logits) {
  // f64: the stored logits were rounded to f32, 2^-24 each.
  EXPECT_LT(relative_error(tuned(Dtype::kF64).logits(stream), golden.tensor("logits")), 1e-7);
  EXPECT_LT(relative_error(tuned(Dtype::kF32).logits(stream), golden.tensor("logits")), 1e-5);
}

TEST_P(LoraGolden, GradientsOfEveryTensor) {
  for (const Dtype dtype : {Dtype::kF64, Dtype::kF32}) {
    const TunedModel model = tuned(dtype);
    backward(model.loss(stream).sum);
    size_t seen = 0;
    for (const nn::Trainable& t : model.trainables()) {
      const std::string key = "grad." + file_key(t.name);
      ASSERT_TRUE(golden.has(key)) << key;
      ASSERT_TRUE(t.var.grad().defined()) << t.name;
      // f32: sums over 67 rows and all layers; transformers' own f32 gradients are off by as much.
      EXPECT_LT(relative_error(t.var.grad(), golden.tensor(key)), dtype == Dtype::kF64 ? 2e-7 : 3e-5) << t.name;
      ++seen;
    }
    EXPECT_EQ(seen, adapter.tensors.size());
  }
}

TEST_P(LoraGolden, MergedWeights) {
  size_t expected = 0, seen = 0;
  for (const std::string& name : golden.names()) expected += name.rfind("merged.", 0) == 0;
  for (const Dtype dtype : {Dtype::kF64, Dtype::kF32}) {
    const TunedModel model = tuned(dtype);
    for (const nn::Parameter& p : model.model().parameters()) {
      if (!golden.has("merged." + p.path)) continue;
      ++seen;
      // Both round to f32 at the end; the f32 merge rounds its sums of at most 4 products as well.
      EXPECT_LT(relative_error(testing::merged_weight(model, p, dtype), golden.tensor("merged." + p.path)), 2e-7)
          << p.path;
    }
  }
  EXPECT_GT(expected, 0u);
  EXPECT_EQ(seen, 2 * expected);
}

TEST_P(LoraGolden, StateIsTheFile) {
  std::map<std::string, Tensor> written;
  for (const auto& [name, tensor] : tuned(Dtype::kF32).method().state()) written[name] = tensor;
  ASSERT_EQ(written.size(), adapter.tensors.size());
  for (const auto& [name, tensor] : adapter.tensors) {
    ASSERT_TRUE(written.count(name)) << name;
    EXPECT_EQ(written[name].shape(), tensor.shape()) << name;
    EXPECT_EQ(written[name].values(), tensor.values()) << name;
  }
}

TEST_P(LoraGolden, ItsConfigForPeersMeansTheSameAdapter) {
  const TunedModel first = tuned(Dtype::kF64);
  const Json config = static_cast<const peft::Lora&>(first.method()).peft_config();
  const TunedModel second(model(), Dtype::kF64, {testing::make_lora(testing::lora_config(config), 2)});
  second.method().load_state(first.method().state());
  // Scales go through alpha = scale · r and back: one rounding each.
  EXPECT_LT(relative_error(second.logits(stream), first.logits(stream)), 1e-14);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, LoraGolden,
    ::testing::Combine(::testing::Values("tied_small", "untied_odd"),
                       ::testing::Values("lora_basic", "lora_honest", "lora_patterns", "lora_regex", "lora_out_proj")),
    [](const auto& info) { return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param); });

TEST(LoraState, MissingAndWronglyShapedTensorsAreNamed) {
  const io::AdapterFiles adapter = io::read_adapter(golden_dir("tied_small/lora_basic/adapter"));
  const TunedModel model("tied_small", Dtype::kF32, {testing::make_lora(testing::lora_config(adapter.config))});
  auto message = [&](const io::NamedTensors& tensors) {
    try {
      model.method().load_state(tensors);
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string("nothing was thrown");
  };
  for (size_t i = 0; i < adapter.tensors.size(); ++i) {
    const std::string& name = adapter.tensors[i].first;
    io::NamedTensors without = adapter.tensors;
    without.erase(without.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_NE(message(without).find(name), std::string::npos) << message(without);
    io::NamedTensors wider = adapter.tensors;
    const Shape& shape = wider[i].second.shape();
    wider[i].second = Tensor::zeros({shape[0] + 1, shape[1]}, Dtype::kF32);
    EXPECT_NE(message(wider).find(name), std::string::npos) << message(wider);
    EXPECT_NE(message(wider).find(shape_str(shape)), std::string::npos) << message(wider);
  }
}

}  // namespace
}  // namespace molt

// PEFT's methods against PEFT: adapters as it wrote them, read without molt.json; logits with them; ten steps of AdamW
// from them; and what Molt writes back.
#include <filesystem>

#include "molt/app/adapter.h"
#include "molt/app/methods.h"
#include "molt/base/file.h"
#include "molt/optim/adamw.h"
#include "tests/cases/tuning.h"

namespace molt {
namespace {

namespace fs = std::filesystem;
using testing::GoldenStream;
using testing::relative_error;
using testing::TunedModel;

const char* const kModels[] = {"tied_small", "untied_odd"};
const char* const kCases[] = {"dora",
                              "dora_rs",
                              "pissa",
                              "olora",
                              "ia3",
                              "ln_tuning",
                              "vera",
                              "loha",
                              "lokr",
                              "oft",
                              "miss",
                              "lokr_both",
                              "lokr_factor",
                              "adalora",
                              "oft_shared",
                              "oft_exact",
                              "boft",
                              "boft_butterfly",
                              "trainable_tokens",
                              "prompt_tuning",
                              "p_tuning"};

class PeftGolden : public ::testing::TestWithParam<std::tuple<const char*, const char*>> {
 protected:
  std::string model() const { return std::get<0>(GetParam()); }
  std::string name() const { return std::get<1>(GetParam()); }
  std::string directory() const { return str(MOLT_SOURCE_DIR, "/tests/golden/peft/", model(), "/", name()); }

  const io::AdapterFiles adapter = io::read_adapter(directory() + "/adapter");
  const Json golden = read_json_file(directory() + "/golden.json");
  const Tensor logits = io::SafetensorsFile(directory() + "/golden.safetensors").tensor("logits");
  const GoldenStream stream{io::SafetensorsFile(testing::golden_dir(model()) + "/golden.safetensors")};

  TunedModel tuned(Dtype dtype) const {
    std::vector<testing::MakeMethod> makes;
    for (const auto& [method, options] : app::entries_from_peft(adapter.config, directory())) {
      const app::MethodEntry entry{method, app::YamlNode::parse(options.dump(), directory())};
      makes.push_back([=](Dtype d) { return app::make_method(entry, 1, d); });
    }
    TunedModel tuned(model(), dtype, makes);
    for (nn::Method* method : tuned.methods()) method->load_state(adapter.tensors);
    tuned.bind();
    return tuned;
  }
};

TEST_P(PeftGolden, Logits) {
  // The stored ones were rounded to f32. PiSSA's and OLoRA's first pairs are not stored: PEFT takes them apart in f32
  // and rounds the rest of the weight to f32 too, so its own numbers are good to 1e-6.
  const double wide = name() == "pissa" || name() == "olora" ? 1e-5 : 1e-7;
  EXPECT_LT(relative_error(tuned(Dtype::kF64).logits(stream), logits), wide);
  EXPECT_LT(relative_error(tuned(Dtype::kF32).logits(stream), logits), 1e-5);
}

TEST_P(PeftGolden, TenLosses) {
  const TunedModel model = tuned(Dtype::kF64);
  const auto expected = golden.at("losses_f64").get<std::vector<double>>();
  int64_t trainable = 0;
  for (const nn::Method* method : model.methods()) trainable += method->trainable_count();
  EXPECT_EQ(trainable, golden.at("trainable").get<int64_t>());
  optim::AdamW optimizer(model.parameters(), {});
  for (size_t k = 0; k < expected.size(); ++k) {
    const nn::LossSum loss = model.loss(stream);
    if (loss.sum.needs_grad()) backward(loss.sum);
    const double scale = 1 / static_cast<double>(loss.count);
    // Sums in another order, enlarged by Adam, which divides gradients by their own size.
    const double tolerance = name() == "pissa" || name() == "olora" ? 1e-4 : 1e-7;
    EXPECT_NEAR(loss.sum.value().values()[0] * scale / expected[k], 1, tolerance) << "loss of step " << k;
    for (nn::Method* method : model.methods())
      method->before_step({static_cast<int64_t>(k), static_cast<int64_t>(expected.size()), scale});
    optimizer.step(1e-2, scale);
    model.after_step();
  }
}

TEST_P(PeftGolden, WrittenAsPeftWritesIt) {
  const TunedModel model = tuned(Dtype::kF32);
  std::map<std::string, Tensor> written;
  for (const auto& [key, tensor] : model.method().adapter_state()) written[key] = tensor;
  const bool with_origin = name() == "pissa" || name() == "olora";  // written as plain LoRA of twice the rank
  EXPECT_EQ(written.size(), adapter.tensors.size());
  for (const auto& [key, tensor] : adapter.tensors) {
    ASSERT_TRUE(written.count(key)) << key;
    if (with_origin) continue;
    EXPECT_EQ(written[key].shape(), tensor.shape()) << key;
    EXPECT_EQ(written[key].values(), tensor.values()) << key;
  }
  const Json config = model.method().peft_config();
  ASSERT_TRUE(config.is_object());
  if (name() == "p_tuning") {  // rows, which is what PEFT keeps of it too; they are written as what they are
    EXPECT_EQ(config.at("peft_type"), "PROMPT_TUNING");
    return;
  }
  for (const auto& [key, value] : config.items()) EXPECT_TRUE(adapter.config.contains(key)) << key;
  EXPECT_EQ(config.at("peft_type"), adapter.config.at("peft_type"));
}

INSTANTIATE_TEST_SUITE_P(Cases, PeftGolden,
                         ::testing::Combine(::testing::ValuesIn(kModels), ::testing::ValuesIn(kCases)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param);
                         });

}  // namespace
}  // namespace molt

// SDT-P, SDT+ and the paper's own warm-up and criterion against plain references in double precision
// (tools/golden/sdt_forms.py): warm-up, what is chosen and pruned, ten losses, first gradients, what the tensors
// become.
#include "molt/app/methods.h"
#include "molt/base/file.h"
#include "molt/optim/adamw.h"
#include "tests/cases/peft_files.h"

namespace molt {
namespace {

using testing::golden_dir;
using testing::GoldenStream;
using testing::relative_error;
using testing::TunedModel;

class SdtFormsGolden : public ::testing::TestWithParam<std::tuple<const char*, const char*>> {
 protected:
  std::string model() const { return std::get<0>(GetParam()); }
  const std::string directory = golden_dir(model() + "/sdt_forms/" + std::get<1>(GetParam()));
  const Json golden_json = read_json_file(directory + "/golden.json");
  const io::SafetensorsFile golden{directory + "/golden.safetensors"};
  const GoldenStream stream{io::SafetensorsFile(golden_dir(model()) + "/golden.safetensors")};

  /// Steps of AdamW on the mean loss; `first` sees the gradients of the first, and what makes them those of the mean.
  void train(const TunedModel& tuned, const char* losses, const std::function<void(double)>& first = {}) const {
    optim::AdamW optimizer(tuned.parameters(), {});
    const Json& expected = golden_json.at(losses);
    for (size_t k = 0; k < expected.size(); ++k) {
      const nn::LossSum loss = tuned.loss(stream);
      backward(loss.sum);
      const double scale = 1 / static_cast<double>(loss.count);
      // Equal up to the order of sums, which steps of Adam enlarge.
      EXPECT_NEAR(loss.sum.value().values()[0] * scale / expected[k].get<double>(), 1, 1e-9)
          << losses << ", step " << k;
      if (k == 0 && first) first(scale);
      optimizer.step(golden_json.at("settings").at("lr").get<double>(), scale);
      tuned.after_step();
    }
  }
};

/// "….x_proj:B.sdt_delta" is the adapter's "….x_proj.sdt_delta_B".
std::string key_of(const std::string& trainable) {
  const size_t colon = trainable.find(':');
  if (colon == std::string::npos) return "base_model.model." + trainable;
  const size_t dot = trainable.find('.', colon);
  return "base_model.model." + trainable.substr(0, colon) + trainable.substr(dot) + "_" +
         trainable.substr(colon + 1, dot - colon - 1);
}

TEST_P(SdtFormsGolden, WarmUpSelectionAndTenSteps) {
  const app::MethodEntry entry{"sdt", app::YamlNode::parse(golden_json.at("options").dump(), directory)};
  TunedModel tuned(model(), Dtype::kF64, {[&](Dtype d) { return app::make_method(entry, 1, d); }});
  train(tuned, "warmup_losses_f64");
  tuned.begin_phase(1);
  train(tuned, "losses_f64", [&](double scale) {
    for (const nn::Trainable& t : tuned.trainables()) {
      ASSERT_TRUE(golden.has("grad0." + key_of(t.name))) << t.name;
      Tensor mean = t.var.grad().clone();
      mean.scale(scale);
      // Stored ones were rounded to f32.
      EXPECT_LT(relative_error(mean, golden.tensor("grad0." + key_of(t.name))), 1e-6) << t.name;
    }
  });
  size_t seen = 0, expected = 0;
  for (const std::string& name : golden.names()) expected += name.rfind("final.", 0) == 0;
  for (const auto& [name, tensor] : tuned.method().state()) {
    ASSERT_TRUE(golden.has("final." + name)) << name;
    const Tensor stored = golden.tensor("final." + name);
    EXPECT_EQ(tensor.shape(), stored.shape()) << name;
    if (tensor.dtype() == Dtype::kI64) {  // chosen and pruned: the very same
      EXPECT_EQ(tensor.values(), stored.values()) << name;
    } else {
      EXPECT_LT(relative_error(tensor, stored), 1e-6) << name;
    }
    ++seen;
  }
  EXPECT_EQ(seen, expected);
}

INSTANTIATE_TEST_SUITE_P(Cases, SdtFormsGolden,
                         ::testing::Combine(::testing::Values("tied_small", "untied_odd"),
                                            ::testing::Values("sdt_p", "sdt_plus", "paper", "together")),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param);
                         });

}  // namespace
}  // namespace molt

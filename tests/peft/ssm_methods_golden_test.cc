// Ten steps of training of methods that no peer runs on Mamba, against plain references in torch and double precision:
// every loss, the first gradients, what the tensors become. Of tools/golden/ssm_methods_golden.py, where virtual rows
// really stand in front of every segment, and weight_methods_golden.py, which forms effective weights.
#include <filesystem>

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

class SsmMethodsGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(SsmMethodsGolden, TenSteps) {
  const std::string directory = golden_dir(GetParam()), model = GetParam().substr(0, GetParam().find('/'));
  const Json golden_json = read_json_file(directory + "/golden.json");
  const io::SafetensorsFile golden(directory + "/golden.safetensors"), init(directory + "/init.safetensors");
  const GoldenStream stream{io::SafetensorsFile(golden_dir(model) + "/golden.safetensors")};
  for (const Dtype dtype : {Dtype::kF64, Dtype::kF32}) {
    // f64: equal up to the order of sums, which ten steps of Adam enlarge; stored tensors are rounded to f32 (2^-24).
    // f32: gradients good to 1e-5, and Adam's first steps divide them by their own size.
    const bool wide = dtype == Dtype::kF64;
    const double losses = wide ? 1e-9 : 1e-5, gradients = wide ? 1e-6 : 1e-4, values = wide ? 1e-6 : 2e-3;
    std::vector<testing::MakeMethod> makes;
    for (Json options : golden_json.at("methods")) {
      const std::string name = options.at("method").get<std::string>();
      options.erase("method");
      const app::MethodEntry entry{name, app::YamlNode::parse(options.dump(), directory)};
      makes.push_back([entry](Dtype d) { return app::make_method(entry, 1, d); });
    }
    const TunedModel tuned(model, dtype, makes);
    io::NamedTensors first;
    for (const std::string& name : init.names()) first.emplace_back(name, init.tensor(name));
    const auto states = [&] {
      io::NamedTensors tensors;
      for (const nn::Method* method : tuned.methods()) {
        for (const auto& t : method->state()) tensors.push_back(t);
      }
      return tensors;
    };
    for (nn::Method* method : tuned.methods()) method->load_state(first);
    EXPECT_EQ(states().size(), first.size());
    // Reading back may have made trainables anew.
    const auto rebound = [&] {
      auto copy = std::make_unique<nn::EditSet>();
      for (nn::Method* method : tuned.methods()) method->bind(*copy);
      return copy;
    }();
    std::vector<optim::Parameter> parameters;
    for (const auto& [id, edit] : rebound->all()) {
      for (const nn::Trainable& t : edit->trainables()) parameters.push_back({.name = t.name, .var = t.var});
    }
    optim::AdamW optimizer(parameters, {});
    const Json& expected = golden_json.at("losses_f64");
    const std::vector<std::string> names = golden.names();
    const bool has_gradients =
        std::any_of(names.begin(), names.end(), [](const std::string& n) { return n.rfind("grad0.", 0) == 0; });
    for (size_t k = 0; k < expected.size(); ++k) {
      nn::Context c{.segments = &stream.segments, .edits = rebound.get(), .training = true};
      c.recompute = k % 2 == 1;
      c.phase_step = static_cast<int64_t>(k);
      c.phase_steps = static_cast<int64_t>(expected.size());
      const nn::LossSum loss = tuned.model().loss(c, tuned.model().hidden(c, stream.ids), stream.labels);
      backward(loss.sum);
      const double scale = 1 / static_cast<double>(loss.count);
      EXPECT_NEAR(loss.sum.value().values()[0] * scale / expected[k].get<double>(), 1, losses) << "step " << k;
      if (k == 0 && has_gradients) {
        for (const optim::Parameter& p : parameters) {
          std::string key = p.name.find(".prompt") != std::string::npos ? "grad0.prompt_embeddings"
                                                                        : "grad0.base_model.model." + p.name;
          if (!golden.has(key)) key += ".weight";  // a pair, whose trainables say whose it is
          if (const size_t own = key.find(".slora."); own != std::string::npos) key.erase(own, 6);
          ASSERT_TRUE(golden.has(key)) << key;
          Tensor mean = p.var.grad().clone();
          mean.scale(scale);
          EXPECT_LT(relative_error(mean, golden.tensor(key)), gradients) << p.name;
        }
      }
      for (nn::Method* method : tuned.methods())
        method->before_step({static_cast<int64_t>(k), static_cast<int64_t>(expected.size()), scale});
      optimizer.step(golden_json.at("settings").at("lr").get<double>(), scale);
      for (nn::Method* method : tuned.methods()) method->after_step();
    }
    for (const auto& [name, tensor] : states())
      EXPECT_LT(relative_error(tensor, golden.tensor("final." + name)), values) << name;
  }
}

std::vector<std::string> cases() {
  std::vector<std::string> found;
  for (const char* model : {"tied_small", "untied_odd"}) {
    for (const std::string kind : {"/ssm_methods", "/weight_methods"}) {
      for (const auto& entry : std::filesystem::directory_iterator(golden_dir(model) + kind))
        found.push_back(model + kind + "/" + entry.path().filename().string());
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}
INSTANTIATE_TEST_SUITE_P(Cases, SsmMethodsGolden, ::testing::ValuesIn(cases()), [](const auto& info) {
  const std::string model = info.param.substr(0, info.param.find('/'));
  return model + "_" + info.param.substr(info.param.rfind('/') + 1);
});

}  // namespace
}  // namespace molt

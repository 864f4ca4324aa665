// What holds for every method of the list: its options can be written and read back, targets that are not there are
// refused, an adapter on disk is the same model, and each is among the cases that the laws are checked on.
#include "molt/app/methods.h"

#include <filesystem>
#include <set>

#include "molt/app/adapter.h"
#include "tests/cases/methods.h"

namespace molt {
namespace {

namespace fs = std::filesystem;

app::MethodEntry entry(const std::string& name, const std::string& options = "{}") {
  return {name, app::YamlNode::parse(options, "test")};
}

class EveryMethod : public ::testing::TestWithParam<std::string> {};

TEST_P(EveryMethod, SaysWhatItIsAndKeepsItsOptions) {
  EXPECT_FALSE(app::method_summary(GetParam()).empty());
  const auto method = app::make_method(entry(GetParam()), 1, Dtype::kF32);
  EXPECT_EQ(method->name(), GetParam());
  Json options = method->config_json();
  EXPECT_EQ(options.at("method"), GetParam());
  options.erase("method");
  const auto again = app::make_method(entry(GetParam(), options.dump()), 1, Dtype::kF32);
  EXPECT_EQ(again->config_json(), method->config_json());
}

TEST_P(EveryMethod, TakesItsOwnRates) {
  const auto with = entry(GetParam(), "{learning_rate: 0.25, weight_decay: 0.5}");
  const auto method = app::make_method(with, 1, Dtype::kF32);
  EXPECT_EQ(method->rates.learning_rate, 0.25);
  EXPECT_EQ(method->rates.weight_decay, 0.5);
  EXPECT_EQ(app::resolved_options(with)["learning_rate"], 0.25);
  EXPECT_FALSE(app::resolved_options(entry(GetParam())).contains("learning_rate"));
  EXPECT_THROW(app::make_method(entry(GetParam(), "{learning_rate: -1}"), 1, Dtype::kF32), UsageError);
  EXPECT_THROW(app::make_method(entry(GetParam(), "{no_such_option: 1}"), 1, Dtype::kF32), UsageError);
}

TEST_P(EveryMethod, RefusesTargetsThatAreNotThere) {
  bool has_targets = false;
  const app::OptionList options = app::method_options(GetParam());
  for (const app::Option& o : options.rows()) has_targets |= o.key == "target_modules";
  if (!has_targets) GTEST_SKIP() << "it finds its sites itself";
  models::LoadedModel base =
      models::open_model(testing::golden_dir("tied_small") + "/checkpoint", testing::all_in(Dtype::kF32));
  const auto method = app::make_method(entry(GetParam(), "{target_modules: [nowhere]}"), 1, Dtype::kF32);
  EXPECT_THROW(
      {
        method->declare(base.model->sites(), base.model->parameters());
        models::load_weights(base);
        method->attach(base.model->sites());
      },
      UsageError);
}

TEST_P(EveryMethod, IsAmongTheCasesOfTheLaws) {
  std::set<std::string> covered;
  for (const testing::MethodCase& c : testing::method_cases()) {
    for (const testing::MakeMethod& make : c.methods) covered.insert(make(Dtype::kF32)->name());
  }
  EXPECT_TRUE(covered.count(GetParam())) << "add it to tests/cases/methods.h";
}

INSTANTIATE_TEST_SUITE_P(Methods, EveryMethod, ::testing::ValuesIn(app::method_names()),
                         [](const auto& info) { return info.param; });

/// Every case in its last phase, on disk and back.
class AdapterOnDisk : public ::testing::TestWithParam<testing::MethodCase> {};

TEST_P(AdapterOnDisk, IsTheSameModel) {
  const std::string model = GetParam().model, checkpoint = testing::golden_dir(model) + "/checkpoint";
  const testing::GoldenStream stream{io::SafetensorsFile(testing::golden_dir(model) + "/golden.safetensors")};
  const testing::TunedModel tuned = testing::begin(GetParam(), Dtype::kF32);
  testing::disturb(tuned, 1);
  const fs::path directory = fs::path(::testing::TempDir()) / ("molt_disk_" + GetParam().name);
  fs::remove_all(directory);
  {
    const models::LoadedModel base = models::open_model(checkpoint, testing::all_in(Dtype::kF32));
    app::save_adapter(directory.string(), tuned.methods(), base, checkpoint);
  }
  const auto logits_of = [&] {
    models::LoadedModel base = models::open_model(checkpoint, testing::all_in(Dtype::kF32));
    app::LoadedAdapter adapter(directory.string(), base, Dtype::kF32);
    models::load_weights(base);
    adapter.finish();
    nn::EditSet edits;
    adapter.bind(edits);
    const NoGrad no_grad;
    const nn::Context c{.segments = &stream.segments, .edits = &edits};
    return base.model->logits(c, base.model->hidden(c, stream.ids), stream.rows).value();
  };
  const Tensor expected = tuned.logits(stream);
  EXPECT_EQ(logits_of().values(), expected.values());
  // What is PEFT's own form says everything without molt.json too.
  const Json type = io::read_adapter(directory.string()).config.at("peft_type");
  if (type.get<std::string>().rfind("MOLT", 0) != 0) {
    fs::remove(directory / "molt.json");
    EXPECT_LT(testing::relative_error(logits_of(), expected), 1e-6) << type;
  }
  fs::remove_all(directory);
}

std::vector<testing::MethodCase> on_disk() {
  std::vector<testing::MethodCase> cases;
  for (const testing::MethodCase& c : testing::method_cases()) {
    if (c.last_phase) cases.push_back(c);
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Cases, AdapterOnDisk, ::testing::ValuesIn(on_disk()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace molt

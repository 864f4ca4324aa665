// Methods that go on from what was learnt before: XGBLoRA's rounds are fitted on top of each other, S-LoRA keeps the
// directions of earlier adapters.
#include <filesystem>
#include <fstream>
#include <set>

#include "molt/base/file.h"
#include "molt/io/adapter.h"
#include "tests/cases/methods.h"

namespace molt {
namespace {

namespace fs = std::filesystem;
using peft::EarlierAdapter;
using peft::Slora;
using peft::SloraConfig;
using peft::XgbLora;
using peft::XgbLoraConfig;
using testing::as_earlier;
using testing::GoldenStream;
using testing::merged_weight;
using testing::relative_error;
using testing::slora_after_two;
using testing::trained_lora;
using testing::TunedModel;
using testing::with;

const std::vector<std::string> kTargets{"in_proj:z", "x_proj:B", "out_proj"};

GoldenStream stream_of(const std::string& model) {
  return GoldenStream{io::SafetensorsFile(testing::golden_dir(model) + "/golden.safetensors")};
}

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

template <class F>
std::string refusal(const F& f) {
  try {
    f();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(XgbLora, RoundsShareTheSteps) {
  std::vector<int64_t> count(3, 0);
  int64_t last = 0;
  for (int64_t step = 0; step < 10; ++step) {
    const int64_t round = XgbLora::round_of(step, 10, 3);
    EXPECT_GE(round, last);
    last = round;
    ++count[static_cast<size_t>(round)];
  }
  EXPECT_EQ(count, (std::vector<int64_t>{4, 3, 3}));
  EXPECT_EQ(XgbLora::round_of(12, 10, 3), 2);
  EXPECT_EQ(XgbLora::round_of(5, 0, 3), 0);
}

TEST(XgbLora, InARoundItsPairTrainsOnTopOfThoseBeforeIt) {
  const GoldenStream stream = stream_of("tied_small");
  const TunedModel tuned("tied_small", Dtype::kF64,
                         {with<XgbLora>({.rounds = 3, .layers = 0, .target_modules = {"in_proj"}})});
  testing::disturb(tuned, 1);
  auto value = [&](int64_t step) {
    const NoGrad no_grad;
    return tuned.logits(stream, {.training = true, .phase_step = step, .phase_steps = 3}).values();
  };
  // All rounds together are what is used afterwards; a round does not see those to come.
  EXPECT_LT(relative_error(value(2), tuned.logits(stream).values()), 1e-14);
  EXPECT_GT(relative_error(value(1), value(2)), 1e-6);
  EXPECT_GT(relative_error(value(0), value(1)), 1e-6);
  for (const nn::Trainable& t : tuned.trainables()) {
    if (t.name.find(".round2.") == std::string::npos) continue;
    Tensor away = t.var.value();
    away.fill(0);
  }
  tuned.after_step();
  EXPECT_LT(relative_error(value(1), tuned.logits(stream).values()), 1e-14);
}

TEST(XgbLora, DrawsLayersBySeedAndSaysWhich) {
  const XgbLoraConfig config{.rounds = 12, .layers = 1, .target_modules = {"in_proj"}};
  auto rounds = [&](uint64_t seed, const XgbLoraConfig& c) {
    const TunedModel tuned("tied_small", Dtype::kF32, {with<XgbLora>(c, seed)});
    return tuned.method().config_json().at("round_layers").get<std::vector<std::string>>();
  };
  const auto drawn = rounds(5, config);
  ASSERT_EQ(drawn.size(), 12u);
  EXPECT_EQ(std::set<std::string>(drawn.begin(), drawn.end()), (std::set<std::string>{"0", "1"}));
  EXPECT_EQ(rounds(5, config), drawn);
  EXPECT_NE(rounds(6, config), drawn);
  // Named, they do not depend on any seed.
  XgbLoraConfig named = config;
  named.round_layers = drawn;
  EXPECT_EQ(rounds(7, named), drawn);
}

TEST(XgbLora, OptionsOutOfRangeAreRefused) {
  auto says = [](const XgbLoraConfig& c) {
    return refusal([&] { TunedModel("tied_small", Dtype::kF32, {with<XgbLora>(c)}); });
  };
  EXPECT_SAYS(says({.rounds = 0}), "rounds");
  EXPECT_SAYS(says({.r = 0}), "r must");
  EXPECT_SAYS(says({.lora_dropout = 1}), "lora_dropout");
  EXPECT_SAYS(says({.layers = -1}), "layers");
  EXPECT_SAYS(says({.layers = 1.5}), "layers");
  EXPECT_SAYS(says({.layers = 3}), "2 layers");
  EXPECT_SAYS(says({.rounds = 2, .round_layers = {"0"}}), "round_layers says 1 rounds");
  for (const char* layers : {"7", "x", "-", "", "0 99999999999999999999"})
    EXPECT_SAYS(says({.rounds = 1, .round_layers = {layers}}), "round_layers") << layers;
  const TunedModel tuned("tied_small", Dtype::kF32, {with<XgbLora>({.rounds = 4})});
  EXPECT_SAYS(refusal([&] { tuned.method().check_steps(3); }), "rounds is 4");
}

TEST(Slora, StartsAsTheSumOfEarlierAdapters) {
  for (const std::string model : {"tied_small", "untied_odd"}) {
    const GoldenStream stream = stream_of(model);
    const TunedModel first = trained_lora(model, kTargets, 2, 41, Dtype::kF64),
                     second = trained_lora(model, kTargets, 3, 42, Dtype::kF64);
    std::vector<EarlierAdapter> earlier{as_earlier("first", first), as_earlier("second", second)};
    const SloraConfig config{.target_modules = kTargets};
    const TunedModel tuned(model, Dtype::kF64,
                           {[&](Dtype dtype) { return std::make_unique<Slora>(config, 5, dtype, earlier); }});
    // The base with the one adapter merged, under the other.
    const TunedModel sum(model, Dtype::kF64, {testing::lora_on(kTargets, 0, 3, 42)});
    sum.method().load_state(second.method().state());
    for (nn::Parameter& p : sum.model().parameters()) {
      for (const nn::Parameter& theirs : first.model().parameters()) {
        if (theirs.path == p.path) p.set(merged_weight(first, theirs, Dtype::kF64), testing::all_in(Dtype::kF64), true);
      }
    }
    EXPECT_LT(relative_error(tuned.logits(stream), sum.logits(stream)), 1e-12);
    EXPECT_GT(relative_error(tuned.logits(stream), tuned.base_logits(stream)), 1e-4);
  }
}

TEST(Slora, DirectionsHaveLengthOneAndDoNotTrain) {
  const TunedModel tuned("tied_small", Dtype::kF64, {slora_after_two("tied_small", {.target_modules = kTargets})});
  std::set<const void*> trained;
  for (const nn::Trainable& t : tuned.trainables()) trained.insert(t.var.value().raw());
  std::map<std::string, Tensor> state;
  for (const auto& [name, tensor] : tuned.method().state()) state[name] = tensor;
  int64_t seen = 0;
  for (const auto& [name, B] : state) {
    const size_t at = name.find(".slora_B");
    if (at == std::string::npos) continue;
    const Tensor A = state.at(name.substr(0, at) + ".slora_A"), ranks = state.at(name.substr(0, at) + ".slora_ranks");
    EXPECT_FALSE(trained.count(A.raw()) || trained.count(B.raw())) << name;
    int64_t first = 0;
    for (const double rank : ranks.values()) {
      const auto r = static_cast<int64_t>(rank);
      EXPECT_NEAR(peft::product_norm(A.row_range(first, r), B.col_range(first, r).clone()), 1, 1e-12) << name;
      first += r;
      ++seen;
    }
    EXPECT_EQ(first, A.rows());
  }
  EXPECT_EQ(seen, 2 * 2 * 3);  // two adapters, two layers, three targets
}

TEST(Slora, MagnitudesStartWhereTheRecipeSays) {
  SloraConfig config{.target_modules = kTargets};
  config.magnitude = 0.8;
  const TunedModel tuned("tied_small", Dtype::kF64, {slora_after_two("tied_small", config)});
  for (const nn::Trainable& t : tuned.trainables()) {
    if (t.name.find("slora_magnitude") == std::string::npos) continue;
    EXPECT_EQ(t.var.value().values(), (std::vector<double>{0.8, 0.8})) << t.name;
  }
}

/// A directory with an adapter as a run leaves it, without its molt.json unless given.
class SloraOnDisk : public ::testing::Test {
 protected:
  void TearDown() override { fs::remove_all(root_); }
  std::string write(const std::string& name, const nn::Method& method) {
    io::AdapterFiles files{method.peft_config(), {}};
    Json molt;
    if (files.config.is_null()) {
      files.config = peft::peft_base("MOLT_SLORA");
      molt = {{"format", 1}, {"methods", {method.config_json()}}};
    }
    for (const auto& [key, tensor] : method.adapter_state()) files.tensors.emplace_back(key, tensor);
    return write(name, files, molt);
  }
  std::string write(const std::string& name, const io::AdapterFiles& files, const Json& molt = nullptr) {
    const std::string directory = (root_ / name).string();
    make_directories(directory);
    io::write_adapter(directory, files);
    if (!molt.is_null()) write_file_atomic(directory + "/molt.json", molt.dump());
    return directory;
  }
  static TunedModel after(const std::vector<std::string>& from, const std::vector<std::string>& targets = kTargets,
                          const std::string& model = "tied_small") {
    return TunedModel(model, Dtype::kF64, {with<Slora>({.from = from, .r = 2, .target_modules = targets})});
  }
  static std::string refused(const std::vector<std::string>& from, const std::vector<std::string>& targets = kTargets,
                             const std::string& model = "tied_small") {
    return refusal([&] { after(from, targets, model); });
  }

 private:
  fs::path root_ = fs::path(::testing::TempDir()) /
                   (std::string("molt_slora_") + ::testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(SloraOnDisk, TaskAfterTask) {
  const GoldenStream stream = stream_of("tied_small");
  const std::string one = write("one", trained_lora("tied_small", kTargets, 2, 41).method());
  const TunedModel second = after({one});
  testing::disturb(second, 9);
  const std::string two = write("two", second.method());
  // The second holds the first: it may go.
  fs::remove_all(one);
  const TunedModel third = after({two});
  EXPECT_LT(relative_error(third.logits(stream), second.logits(stream)), 1e-12);
  // Two directions now: the first task's, and what was the new pair.
  for (const auto& [name, tensor] : third.method().state()) {
    if (name.find("slora_ranks") != std::string::npos) {
      EXPECT_EQ(tensor.values(), (std::vector<double>{2, 2})) << name;
    }
  }
  EXPECT_TRUE(third.method().config_json().at("from").empty());
}

TEST_F(SloraOnDisk, WhatDoesNotFitIsRefusedByName) {
  const std::string lora = write("lora", trained_lora("tied_small", kTargets, 2, 41).method());
  EXPECT_EQ(refused({lora}), "accepted");
  EXPECT_SAYS(refused({"/nowhere/at/all"}), "/nowhere/at/all");
  EXPECT_SAYS(refused({lora}, {"in_proj:z", "x_proj:B"}), "out_proj");
  EXPECT_SAYS(refused({lora}, {"in_proj", "x_proj:C", "out_proj"}), "x_proj:C");
  EXPECT_SAYS(refused({lora}, {"in_proj:z", "x_proj:B", "out_proj", "dt_proj"}), "dt_proj");
  EXPECT_SAYS(refused({lora}, {"in_proj:x", "x_proj:B", "out_proj"}), "in_proj:x");
  EXPECT_SAYS(refused({lora}, kTargets, "untied_odd"), "another base");
  // A whole site takes a slice's change: rows outside are zero.
  EXPECT_EQ(refused({lora}, {"in_proj", "x_proj", "out_proj"}), "accepted");
  const std::string slora = write("slora", after({lora}).method());
  EXPECT_EQ(refused({slora}), "accepted");
  EXPECT_SAYS(refused({slora}, {"in_proj", "x_proj:B", "out_proj"}), "in_proj");
  EXPECT_SAYS(refused({slora}, kTargets, "untied_odd"), "another base");
}

TEST_F(SloraOnDisk, OtherMethodsAndBrokenFilesAreRefused) {
  const TunedModel trained = trained_lora("tied_small", {"out_proj"}, 2, 41);
  const std::vector<std::string> targets{"out_proj"};
  const auto files = [&] {
    io::AdapterFiles f{trained.method().peft_config(), {}};
    for (const auto& [key, tensor] : trained.method().state()) f.tensors.emplace_back(key, tensor.clone());
    return f;
  };
  const auto says = [&](const std::function<void(io::AdapterFiles&)>& change) {
    io::AdapterFiles f = files();
    change(f);
    return refused({write("changed", f)}, targets);
  };
  EXPECT_EQ(says([](auto&) {}), "accepted");
  EXPECT_SAYS(says([](auto& f) { f.config["peft_type"] = "IA3"; }), "peft_type is IA3");
  EXPECT_SAYS(says([](auto& f) { f.config["peft_type"] = "MOLT_SLORA"; }), "r or lora_alpha");
  EXPECT_SAYS(says([](auto& f) { f.config["use_dora"] = true; }), "DoRA");
  EXPECT_SAYS(says([](auto& f) { f.config["init_lora_weights"] = "pissa"; }), "init_lora_weights");
  EXPECT_SAYS(says([](auto& f) { f.config["lora_alpha"] = "much"; }), "lora_alpha");
  EXPECT_SAYS(says([](auto& f) { f.config["alpha_pattern"] = {{"out_proj", "much"}}; }), "alpha_pattern");
  EXPECT_SAYS(says([](auto& f) { f.tensors.pop_back(); }), "lora_B");
  EXPECT_SAYS(says([](auto& f) { f.tensors[0].second = Tensor::zeros({4}, Dtype::kF32); }), "matrix");
  EXPECT_SAYS(says([](auto& f) { f.tensors[1].second.fill(0); }), "B is zero");
  EXPECT_SAYS(says([](auto& f) { f.tensors[0].second.fill(std::nan("")); }), "not finite");
}

}  // namespace
}  // namespace molt

// How many numbers each method trains at the released models' shapes: the tables of the paper (Galim et al., 2025) and
// of MambaPEFT (Yoshimura et al., 2025), which give them as percentages of base plus added. No weights are needed.
#include <functional>

#include "tests/cases/methods.h"

namespace molt {
namespace {

using testing::full_on;
using testing::lora_on;
using testing::MakeMethod;
using testing::with;

nn::LanguageModelPlan mamba(int64_t d_model, int64_t layers) {
  nn::LanguageModelPlan plan;
  plan.family = "mamba";
  plan.vocabulary = 50280;
  plan.d_model = d_model;
  const nn::LayerPlan layer{.mixer = {.d_model = d_model, .d_inner = 2 * d_model, .dt_rank = d_model / 16}};
  plan.layers.assign(static_cast<size_t>(layers), layer);
  return plan;
}

struct Size {
  const char* name;
  int64_t d_model, layers, parameters;
};
constexpr Size k130m{"130m", 768, 24, 129135360}, k1400m{"1.4b", 2048, 48, 1372178432},
    k2800m{"2.8b", 2560, 64, 2768345600};

struct Row {
  const char* name;
  std::vector<MakeMethod> methods;
  int64_t expected[3];  ///< 130m, 1.4b, 2.8b
  double percent[3];
};

void PrintTo(const Row& row, std::ostream* out) { *out << row.name; }

MakeMethod r(int64_t rank, const std::vector<std::string>& targets) { return lora_on(targets, 0.1, rank); }

/// x_proj and in_proj are single projections here, three and two in the authors' code.
const std::vector<std::string> kInOut{"in_proj:x", "in_proj:z", "out_proj"}, kX{"x_proj:B", "x_proj:C", "x_proj:dt"};

std::vector<std::string> joined(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::vector<Row> rows() {
  const auto sdt = [](double states) -> MakeMethod {
    return [=](Dtype dtype) {
      return std::make_unique<peft::Sdt>(peft::SdtConfig{.freeze_channels = 0.99, .freeze_states = states}, dtype);
    };
  };
  const auto states = [](const std::vector<std::string>& targets) {
    return testing::with<peft::InitialState>({.target_modules = targets});
  };
  return {
      {"lora_all",
       {r(8, joined(joined(kInOut, kX), {"dt_proj"}))},
       {2531328, 13479936, 22462464},
       {1.922, 0.973, 0.805}},
      {"lora_in_out", {r(8, kInOut)}, {1327104, 7077888, 11796480}, {1.017, 0.513, 0.424}},
      {"lora_in_x", {r(8, {"in_proj:x"})}, {442368, 2359296, 3932160}, {0.341, 0.172, 0.142}},
      {"lora_in_z", {r(8, {"in_proj:z"})}, {442368, 2359296, 3932160}, {0.341, 0.172, 0.142}},
      {"lora_in_x_in_z", {r(8, {"in_proj:x", "in_proj:z"})}, {884736, 4718592, 7864320}, {0.680, 0.343, 0.283}},
      {"lora_out", {r(8, {"out_proj"})}, {442368, 2359296, 3932160}, {0.341, 0.172, 0.142}},
      {"lora_s6", {r(8, joined(kX, {"dt_proj"}))}, {1204224, 6402048, 10665984}, {0.924, 0.464, 0.384}},
      {"lora_x", {r(8, kX)}, {900096, 4780032, 7962624}, {0.692, 0.347, 0.287}},
      {"lora_dt", {r(8, {"dt_proj"})}, {304128, 1622016, 2703360}, {0.235, 0.118, 0.098}},
      // Of 2.8b by the formula: the paper's runs of these three end at 1.4b.
      {"lora_r2_out_x_dt",
       {r(2, joined(kX, {"out_proj", "dt_proj"}))},
       {411648, 2190336, 3649536},
       {0.318, 0.159, 0.132}},
      {"lora_r3_out_x", {r(3, joined(kX, {"out_proj"}))}, {503424, 2677248, 4460544}, {0.388, 0.195, 0.161}},
      {"lora_r5_out_dt", {r(5, {"out_proj", "dt_proj"})}, {466560, 2488320, 4147200}, {0.360, 0.181, 0.150}},
      {"full", {full_on({})}, {129135360, 1372178432, 2768345600}, {100, 100, 100}},
      {"full_s6",
       {full_on({"A_log", "x_proj", "D", "dt_proj", "conv1d"})},
       {5566464, 61145088, 122880000},
       {4.311, 4.456, 4.439}},
      {"full_A_log", {full_on({"A_log"})}, {589824, 3145728, 5242880}, {0.457, 0.229, 0.189}},
      {"full_x_proj", {full_on({"x_proj"})}, {2949120, 31457280, 62914560}, {2.284, 2.293, 2.273}},
      {"full_dt_proj", {full_on({"dt_proj"})}, {1806336, 25362432, 52756480}, {1.399, 1.848, 1.906}},
      {"full_conv1d", {full_on({"conv1d"})}, {184320, 983040, 1638400}, {0.143, 0.072, 0.059}},
      {"full_D_norms",
       {full_on({"D", "norm.weight", "norm_f.weight"})},
       {56064, 296960, 494080},
       {0.043, 0.022, 0.018}},
      {"bitfit", {with<peft::BitFit>({})}, {73728, 393216, 655360}, {0.057, 0.029, 0.024}},
      {"ln_tuning", {with<peft::LnTuning>({})}, {25 * 768, 49 * 2048, 65 * 2560}, {0.0149, 0.0073, 0.0060}},
      {"sdt_75_lora_out", {sdt(0.75), r(8, {"out_proj"})}, {455328, 2430144, 4049664}, {0.351, 0.177, 0.146}},
      // By the formula: L · (channels · states + 2 N · channels) + LoRA, with 15, 41 and 51 channels, 2 or 1 states.
      {"sdt_90_lora_out",
       {sdt(0.90), r(8, {"out_proj"})},
       {24 * 15 * 34 + 442368, 48 * 41 * 34 + 2359296, 64 * 51 * 34 + 3932160},
       {0.351, 0.177, 0.146}},
      {"sdt_95_lora_out",
       {sdt(0.95), r(8, {"out_proj"})},
       {24 * 15 * 33 + 442368, 48 * 41 * 33 + 2359296, 64 * 51 * 33 + 3932160},
       {0.351, 0.177, 0.146}},
      // SDT+ instead of LoRA: 15, 41 and 51 channels' columns of out_proj.
      {"sdt_plus_out",
       {testing::with<peft::Sdt>({.projections = {"out_proj"}})},
       {24 * 15 * (36 + 768), 48 * 41 * (36 + 2048), 64 * 51 * (36 + 2560)},
       {0.224, 0.298, 0.305}},
      {"initial_state", {states({"h0"})}, {589824, 3145728, 5242880}, {0.455, 0.229, 0.189}},
      {"initial_and_conv_state", {states({"h0", "conv0"})}, {700416, 3735552, 6225920}, {0.540, 0.272, 0.224}},
      {"state_offset", {testing::with<peft::StateOffset>({})}, {589824, 3145728, 5242880}, {0.455, 0.229, 0.189}},
      {"output_offset",
       {testing::with<peft::StateOffset>({.offset = "y"})},
       {36864, 196608, 327680},
       {0.029, 0.014, 0.012}},
      {"additional_scan", {testing::with<peft::AdditionalScan>({})}, {884736, 4718592, 7864320}, {0.680, 0.343, 0.283}},
      // The paper gives no length; 64 rows are 0.04 % and 0.01 %, as it says of prompts.
      {"prompt",
       {testing::with<peft::PromptTuning>({.num_virtual_tokens = 64})},
       {64 * 768, 64 * 2048, 64 * 2560},
       {0.038, 0.010, 0.006}},
      {"prefix",
       {testing::with<peft::PrefixTuning>({.num_virtual_tokens = 16})},
       {24 * 16 * 768, 48 * 16 * 2048, 64 * 16 * 2560},
       {0.228, 0.115, 0.095}},
      // By the formula: L · (E + N) · r, and for a vector of E = m · n, L · (m + n) · r: 32 · 48, 64 · 64, 64 · 80.
      {"state_offset_r2",
       {testing::with<peft::StateOffset>({.r = 2})},
       {24 * (1536 + 16) * 2, 48 * (4096 + 16) * 2, 64 * (5120 + 16) * 2},
       {0.058, 0.029, 0.024}},
      {"output_offset_r1",
       {testing::with<peft::StateOffset>({.offset = "y", .r = 1})},
       {24 * (32 + 48), 48 * (64 + 64), 64 * (64 + 80)},
       {0.0015, 0.0004, 0.0003}},
      {"residual_A_D",
       {testing::with<peft::Residual>({})},
       {589824 + 36864, 3145728 + 196608, 5242880 + 327680},
       {0.483, 0.243, 0.201}},
  };
}

class ParameterCounts : public ::testing::TestWithParam<Row> {};

TEST_P(ParameterCounts, AreThoseOfThePaper) {
  const Size sizes[] = {k130m, k1400m, k2800m};
  for (size_t s = 0; s < 3; ++s) {
    nn::LanguageModel model(mamba(sizes[s].d_model, sizes[s].layers), {});
    int64_t count = 0, added = 0;
    for (const MakeMethod& make : GetParam().methods) {
      const auto method = make(Dtype::kF32);
      method->declare(model.sites(), model.parameters());
      method->attach(model.sites());
      count += method->trainable_count();
      const bool base_own = method->name() == "full" || method->name() == "bitfit" || method->name() == "ln_tuning";
      if (!base_own) added += method->trainable_count();
    }
    EXPECT_EQ(count, GetParam().expected[s]) << sizes[s].name;
    const double percent = 100.0 * static_cast<double>(count) / static_cast<double>(model.parameter_count() + added);
    EXPECT_NEAR(percent, GetParam().percent[s], 0.0011) << sizes[s].name;
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, ParameterCounts, ::testing::ValuesIn(rows()),
                         [](const auto& info) { return std::string(info.param.name); });

// The authors' program prints SDT with its warm-up in it, a dense change of A_log that is thrown away.
TEST(ParameterCount, OfSdtAsTheAuthorsCodePrintsIt) {
  const int64_t printed[] = {1045152, 5575872, 9292544};
  const double percent[] = {0.803, 0.405, 0.335};
  const Size sizes[] = {k130m, k1400m, k2800m};
  for (size_t s = 0; s < 3; ++s) {
    nn::LanguageModel model(mamba(sizes[s].d_model, sizes[s].layers), {});
    peft::Sdt sdt({.freeze_channels = 0.99, .freeze_states = 0.75}, Dtype::kF32);
    sdt.attach(model.sites());
    nn::EditSet warm_up;
    sdt.bind(warm_up);
    const auto lora = r(8, {"out_proj"})(Dtype::kF32);
    lora->attach(model.sites());
    int64_t count = sdt.trainable_count() + lora->trainable_count();
    for (const auto& [site, edit] : warm_up.all()) {
      for (const nn::Trainable& t : edit->trainables()) count += shape_numel(t.var.node()->shape);
    }
    EXPECT_EQ(count, printed[s]) << sizes[s].name;
    EXPECT_NEAR(100.0 * static_cast<double>(count) / static_cast<double>(sizes[s].parameters + count), percent[s],
                0.0011)
        << sizes[s].name;
  }
}

/// A linear's inputs and outputs.
struct Linear {
  int64_t I, O;
};

/// A method and the formula of docs/methods.md for it, in the letters there; L layers.
struct Formula {
  const char* name;
  MakeMethod method;
  std::function<int64_t(int64_t L, Linear in, Linear x, Linear out)> count;
};

void PrintTo(const Formula& f, std::ostream* out) { *out << f.name; }

std::vector<Formula> formulas() {
  using I = int64_t;
  return {
      {"dora", with<peft::Lora>({.r = 4, .use_dora = true, .target_modules = {"in_proj", "out_proj"}}),
       [](I L, Linear in, Linear, Linear out) { return L * (4 * (in.I + in.O) + in.O + 4 * (out.I + out.O) + out.O); }},
      {"adalora", with<peft::AdaLora>({.init_r = 12, .target_modules = {"in_proj", "x_proj"}}),
       [](I L, Linear in, Linear x, Linear) { return L * 12 * (in.I + in.O + 1 + x.I + x.O + 1); }},
      {"vera", with<peft::Vera>({.r = 64, .target_modules = {"in_proj", "x_proj"}}),
       [](I L, Linear in, Linear x, Linear) { return L * (64 + in.O + 64 + x.O); }},
      {"loha", with<peft::Loha>({.r = 4, .target_modules = {"x_proj", "out_proj"}}),
       [](I L, Linear, Linear x, Linear out) { return L * 2 * 4 * (x.I + x.O + out.I + out.O); }},
      {"oft", with<peft::Oft>({.oft_block_size = 32, .target_modules = {"in_proj", "out_proj"}}),
       [](I L, Linear in, Linear, Linear out) { return L * (in.I + out.I) * 31 / 2; }},
      // PEFT's count: whole matrices, of which the skew-symmetric half acts.
      {"boft",
       with<peft::Boft>({.boft_block_size = 4, .boft_n_butterfly_factor = 2, .target_modules = {"in_proj", "x_proj"}}),
       [](I L, Linear in, Linear x, Linear) { return L * (2 * in.I * 4 + in.O + 2 * x.I * 4 + x.O); }},
      {"prodial", with<peft::Prodial>({.r = 8, .block_size = 16}),
       [](I L, Linear in, Linear, Linear out) {
         return L * (in.I * 16 + in.O + 8 * (in.I + in.O) + out.I * 16 + out.O + 8 * (out.I + out.O));
       }},
      // Half of the modules of each kind have a pair, and the others one together.
      {"diffora", with<peft::Diffora>({.r = 8, .keep = 0.5}),
       [](I L, Linear in, Linear x, Linear out) {
         return (L / 2 + 1) * 8 * (in.I + in.O + x.I + x.O + out.I + out.O);
       }},
      {"diffora_all", with<peft::Diffora>({.r = 8, .keep = 1000}),
       [](I L, Linear in, Linear x, Linear out) { return L * 8 * (in.I + in.O + x.I + x.O + out.I + out.O); }},
      // Six rounds, each with a pair in half of the layers.
      {"xgblora", with<peft::XgbLora>({.rounds = 6, .r = 2, .layers = 0.5, .target_modules = {"in_proj", "out_proj"}}),
       [](I L, Linear in, Linear, Linear out) { return 6 * (L / 2) * 2 * (in.I + in.O + out.I + out.O); }},
      {"miss", with<peft::Miss>({.r = 64, .target_modules = {"in_proj", "x_proj"}}),
       [](I L, Linear in, Linear x, Linear) { return L * 64 * (in.O + x.O); }},
      {"ia3", with<peft::Ia3>({.target_modules = {"x_proj", "out_proj"}, .feedforward_modules = {"out_proj"}}),
       [](I L, Linear, Linear x, Linear out) { return L * (x.O + out.I); }},
  };
}

class CountFormulas : public ::testing::TestWithParam<Formula> {};

TEST_P(CountFormulas, AreThoseOfTheDocumentation) {
  for (const Size& size : {k130m, k1400m, k2800m}) {
    nn::LanguageModel model(mamba(size.d_model, size.layers), {});
    const auto method = GetParam().method(Dtype::kF32);
    method->attach(model.sites());
    const int64_t D = size.d_model;
    EXPECT_EQ(method->trainable_count(), GetParam().count(size.layers, {D, 4 * D}, {2 * D, D / 16 + 32}, {2 * D, D}))
        << size.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, CountFormulas, ::testing::ValuesIn(formulas()),
                         [](const auto& info) { return std::string(info.param.name); });

// R (I + O) + n per target, n earlier directions.
TEST(ParameterCount, OfSloraBehindTwoTasks) {
  for (const Size& size : {k130m, k1400m, k2800m}) {
    nn::LanguageModel model(mamba(size.d_model, size.layers), {});
    std::vector<peft::EarlierAdapter> earlier;
    for (const int64_t rank : {1, 2}) {
      peft::Lora lora({.r = rank, .target_modules = {"x_proj"}}, 1, Dtype::kF32);
      lora.attach(model.sites());
      io::NamedTensors tensors = lora.state();
      for (auto& [name, tensor] : tensors) {
        if (name.find("lora_B") != std::string::npos) tensor.fill(1);
      }
      earlier.emplace_back("earlier", lora.peft_config(), nullptr, tensors);
    }
    peft::Slora slora({.r = 8, .target_modules = {"x_proj"}}, 1, Dtype::kF32, earlier);
    slora.attach(model.sites());
    const int64_t D = size.d_model;
    EXPECT_EQ(slora.trainable_count(), size.layers * (8 * (2 * D + D / 16 + 32) + 2)) << size.name;
  }
}

TEST(ParameterCount, OfTheReleasedModels) {
  for (const Size& size : {k130m, k1400m, k2800m, Size{"370m", 1024, 48, 371516416}, Size{"790m", 1536, 48, 793204224}})
    EXPECT_EQ(nn::LanguageModel(mamba(size.d_model, size.layers), {}).parameter_count(), size.parameters) << size.name;
}

}  // namespace
}  // namespace molt

// Random initialisation against what the reference draws from: mamba_ssm's Mamba module (state-spaces/mamba), which
// transformers' MambaPreTrainedModel follows.
#include <cmath>

#include "tests/cases/golden.h"

namespace molt {
namespace {

constexpr int64_t kLayers = 4, kWidth = 48, kInner = 96, kStates = 16, kConv = 4, kRank = 3;

models::LoadedModel initialised(uint64_t seed) {
  nn::LanguageModelPlan plan;
  plan.family = "mamba";
  plan.vocabulary = 400;
  plan.d_model = kWidth;
  nn::MambaConfig mixer{.d_model = kWidth, .d_inner = kInner, .d_state = kStates, .d_conv = kConv, .dt_rank = kRank};
  plan.layers.assign(kLayers, {mixer});
  models::LoadedModel loaded;
  loaded.family = &models::kMamba;
  loaded.model = std::make_unique<nn::LanguageModel>(plan, testing::all_in(Dtype::kF32));
  for (nn::Parameter& p : loaded.model->parameters()) p.trained = true;  // keeps every value as it was drawn
  models::initialise_weights(loaded, seed);
  return loaded;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

/// All values of the parameters whose path ends so, over layers.
std::vector<double> values_of(const models::LoadedModel& loaded, const std::string& end) {
  std::vector<double> all;
  for (const nn::Parameter& p : loaded.model->parameters()) {
    if (!ends_with(p.path, end)) continue;
    const auto values = p.var.value().values();
    all.insert(all.end(), values.begin(), values.end());
  }
  EXPECT_FALSE(all.empty()) << end;
  return all;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

double deviation(const std::vector<double>& values) {
  const double at = mean(values);
  double sum = 0;
  for (const double v : values) sum += (v - at) * (v - at);
  return std::sqrt(sum / static_cast<double>(values.size()));
}

/// Uniform in ±bound: inside, reaching to its ends, with a uniform's mean and deviation. `n` draws leave 3/sqrt(n) of
/// chance in units of the deviation.
void expect_uniform(const std::vector<double>& values, double bound) {
  double least = 0, most = 0;
  for (const double v : values) least = std::min(least, v), most = std::max(most, v);
  EXPECT_GE(least, -bound * (1 + 1e-6));
  EXPECT_LE(most, bound * (1 + 1e-6));
  EXPECT_GT(most - least, 1.95 * bound);
  const double chance = 3 / std::sqrt(static_cast<double>(values.size()));
  EXPECT_NEAR(deviation(values), bound / std::sqrt(3.), bound * chance);
  EXPECT_NEAR(mean(values), 0, bound * chance);
}

TEST(MambaInitial, LinearsAndConvolutionsAreTorchsDefaults) {
  const auto loaded = initialised(1);
  expect_uniform(values_of(loaded, "in_proj.weight"), 1 / std::sqrt(double{kWidth}));
  expect_uniform(values_of(loaded, "x_proj.weight"), 1 / std::sqrt(double{kInner}));
  expect_uniform(values_of(loaded, "conv1d.weight"), 1 / std::sqrt(double{kConv}));
  // Divided by the root of the number of layers: a residual stream adds up as many outputs.
  expect_uniform(values_of(loaded, "out_proj.weight"), 1 / std::sqrt(double{kInner} * kLayers));
  for (const double v : values_of(loaded, "conv1d.bias")) EXPECT_EQ(v, 0);
  const std::vector<double> table = values_of(loaded, "embeddings.weight");
  EXPECT_NEAR(deviation(table), 0.02, 0.02 * 3 / std::sqrt(2. * static_cast<double>(table.size())));
}

TEST(MambaInitial, TimeStepsAreLogUniform) {
  const auto loaded = initialised(1);
  expect_uniform(values_of(loaded, "dt_proj.weight"), 1 / std::sqrt(double{kRank}));
  std::vector<double> logs;
  for (const double bias : values_of(loaded, "dt_proj.bias")) {
    const double dt = std::log1p(std::exp(bias));
    EXPECT_GE(dt, 1e-3 * (1 - 1e-4));  // the bias is f32
    EXPECT_LE(dt, 0.1 * (1 + 1e-4));
    logs.push_back(std::log(dt) - (std::log(1e-3) + std::log(0.1)) / 2);
  }
  expect_uniform(logs, std::log(100.) / 2 + 1e-4);
}

TEST(MambaInitial, StatesAreS4dReal) {
  const auto loaded = initialised(1);
  const std::vector<double> A_log = values_of(loaded, "A_log");
  ASSERT_EQ(A_log.size(), static_cast<size_t>(kLayers * kInner * kStates));
  for (size_t i = 0; i < A_log.size(); ++i) EXPECT_FLOAT_EQ(A_log[i], std::log(double(i % kStates + 1)));
  for (const char* ones : {".D", "norm.weight", "norm_f.weight"}) {
    for (const double v : values_of(loaded, ones)) EXPECT_EQ(v, 1);
  }
}

TEST(MambaInitial, TheSeedDecidesAndNoTwoLayersAreAlike) {
  const auto a = initialised(1), same = initialised(1), other = initialised(2);
  EXPECT_EQ(values_of(a, "x_proj.weight"), values_of(same, "x_proj.weight"));
  EXPECT_NE(values_of(a, "x_proj.weight"), values_of(other, "x_proj.weight"));
  EXPECT_NE(values_of(a, "layers.0.mixer.x_proj.weight"), values_of(a, "layers.1.mixer.x_proj.weight"));
}

}  // namespace
}  // namespace molt

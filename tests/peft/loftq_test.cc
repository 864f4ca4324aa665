// LoftQ's start: a pair that makes up for what the base lost when it was rounded; what of it goes to disk, and into a
// merged weight, is right for the checkpoint as it is.
#include "molt/peft/base_weight.h"
#include "molt/peft/foldable.h"
#include "tests/cases/method_case.h"

namespace molt {
namespace {

using testing::golden_dir;
using testing::GoldenStream;
using testing::relative_error;
using testing::TunedModel;

/// Weights rounded to bf16, or to 8 bits row by row, and nothing else, so that what differs is what they lost.
constexpr nn::Precision kRounded{.base = Dtype::kBf16, .compute = Dtype::kF32},
    kInt8{.base = Dtype::kI8, .compute = Dtype::kF32};

testing::MakeMethod loftq(int64_t rank, bool dora = false) {
  return testing::with<peft::Lora>({.r = rank,
                                    .lora_alpha = 6,
                                    .use_dora = dora,
                                    .init_lora_weights = "loftq",
                                    .target_modules = {"in_proj:z", "x_proj:B", "x_proj:dt", "dt_proj", "out_proj"}});
}

/// Moves every trainable away from where it started.
void disturb(const TunedModel& tuned, uint64_t seed) {
  for (const nn::Trainable& t : tuned.trainables()) {
    Tensor value = t.var.value();
    value.add(testing::random_tensor(value.shape(), ++seed, 0.05, 0, value.dtype()));
  }
  tuned.after_step();
}

double norm(const Tensor& matrix) {
  double sum = 0;
  for (const double v : matrix.values()) sum += v * v;
  return std::sqrt(sum);
}

/// What the rows of a target lost, less what the pair adds at the start.
struct Loss {
  Tensor before, after, added;
};
Loss loss_of(const TunedModel& tuned, const nn::LowRankTerm& term, const nn::Site& site) {
  const int64_t rows = term.B.value().rows();
  const Tensor kept = peft::base_rows(site, term.begin, rows, Dtype::kF64);
  Loss loss{tuned.checkpoint().tensor(site.parameter->path).row_range(term.begin, rows).to(Dtype::kF64), {}, {}};
  Tensor minus = kept.clone();
  minus.scale(-1);
  loss.before.add(minus);
  loss.added = Tensor::zeros(loss.before.shape(), Dtype::kF64);
  peft::merge_terms({{term.A, term.B, term.scale, 0}}, loss.added);
  minus = loss.added.clone();
  minus.scale(-1);
  loss.after = loss.before.clone();
  loss.after.add(minus);
  return loss;
}

class Loftq : public ::testing::TestWithParam<const char*> {
 protected:
  const GoldenStream stream{io::SafetensorsFile(golden_dir(GetParam()) + "/golden.safetensors")};
};

TEST_P(Loftq, StartsWithTheBestOfItsRank) {
  const nn::Context run;
  for (const auto& [precision, rank] :
       {std::pair<nn::Precision, int64_t>{kRounded, 1}, {kRounded, 2}, {kRounded, 64}, {kInt8, 1}, {kInt8, 64}}) {
    const TunedModel tuned(GetParam(), precision, {loftq(rank)});
    int targets = 0;
    for (const auto& [id, edit] : tuned.edits().all()) {
      const nn::Site& site = tuned.model().sites().all()[static_cast<size_t>(id)];
      const nn::LowRankTerm term = edit->low_rank_term({run, site});
      if (site.shape[1] == 1 && precision.base == Dtype::kI8) continue;  // a row of one number loses nothing
      ASSERT_TRUE(term.A.defined()) << site.path << ": the pair is one product, as LoRA's is";
      const Loss loss = loss_of(tuned, term, site);
      ASSERT_GT(norm(loss.before), 0) << site.path;
      const double left = norm(loss.after) / norm(loss.before);
      EXPECT_LT(left, rank == 64 ? 1e-5 : 0.98) << site.path << ", rank " << rank;
      // What is left of a best approximation stands at right angles to it.
      double along = 0;
      const std::vector<double> a = loss.after.values(), p = loss.added.values();
      for (size_t i = 0; i < a.size(); ++i) along += a[i] * p[i];
      EXPECT_LT(std::abs(along), 1e-4 * norm(loss.before) * norm(loss.before)) << site.path;
      ++targets;
    }
    EXPECT_GE(targets, 8);
  }
}

// With ranks that hold all that was lost, the layers compute with the checkpoint's own weights again. What stands
// outside them is rounded in the reference too.
TEST_P(Loftq, LeadsTheModelBackToTheCheckpoint) {
  const TunedModel exact(GetParam(), Dtype::kF64, {});
  for (nn::Parameter& p : exact.model().parameters()) {
    if (p.layer < 0 && (p.lookup || p.product))
      p.set(exact.checkpoint().tensor(p.path).to(Dtype::kBf16), testing::all_in(Dtype::kF64), true);
  }
  const peft::LoraConfig config{.r = 64, .init_lora_weights = "loftq", .target_modules = {"all-linear"}};
  const TunedModel rounded(GetParam(), kRounded, {testing::with<peft::Lora>(config)});
  const Tensor wanted = exact.base_logits(stream);
  EXPECT_LT(relative_error(rounded.logits(stream), wanted), 1e-5);  // f32
  EXPECT_GT(relative_error(rounded.base_logits(stream), wanted), 1e-3);
}

TEST_P(Loftq, OnAnExactBaseIsPlainLora) {
  const TunedModel tuned(GetParam(), Dtype::kF32, {loftq(3)});
  EXPECT_EQ(tuned.logits(stream).values(), tuned.base_logits(stream).values());
  for (const nn::Trainable& t : tuned.trainables()) {
    const bool drawn = t.name.find("lora_A") != std::string::npos;
    EXPECT_EQ(norm(t.var.value()) > 0, drawn) << t.name;
  }
}

// Learning by more than it made up for, so that either is seen.
TEST_P(Loftq, ReadBackIsTheSameModelOnTheSameBase) {
  for (const bool dora : {false, true}) {
    const TunedModel tuned(GetParam(), kRounded, {loftq(3, dora)});
    disturb(tuned, 1);
    TunedModel fresh(GetParam(), kRounded, {loftq(3, dora)});
    disturb(fresh, 1000);
    fresh.method().load_state(tuned.method().adapter_state());
    fresh.bind();
    EXPECT_EQ(fresh.logits(stream).values(), tuned.logits(stream).values());
  }
}

TEST_P(Loftq, OnAnotherBaseOnlyWhatWasLearntCounts) {
  const TunedModel tuned(GetParam(), kRounded, {loftq(3)});
  TunedModel exact(GetParam(), Dtype::kF64, {loftq(3)});
  exact.method().load_state(tuned.method().adapter_state());
  exact.bind();
  EXPECT_EQ(exact.logits(stream).values(), exact.base_logits(stream).values()) << "nothing was learnt yet";

  disturb(tuned, 1);
  exact.method().load_state(tuned.method().adapter_state());
  exact.bind();
  const TunedModel merged(GetParam(), Dtype::kF64, {});
  for (nn::Parameter& p : merged.model().parameters()) {
    for (const nn::Parameter& ours : tuned.model().parameters()) {
      if (ours.path == p.path)
        p.set(testing::merged_weight(tuned, ours, Dtype::kF64), testing::all_in(Dtype::kF64), true);
    }
  }
  const Tensor wanted = exact.logits(stream);
  EXPECT_LT(relative_error(merged.base_logits(stream), wanted), 1e-12);
  EXPECT_GT(relative_error(exact.base_logits(stream), wanted), 1e-3);
  // What trained is that, but for what rounding took: without the start it would be missing twice.
  EXPECT_LT(relative_error(tuned.logits(stream), wanted), 0.1 * relative_error(exact.base_logits(stream), wanted));
}

TEST_P(Loftq, IsWrittenAsPlainLoraOfTwiceTheRank) {
  const TunedModel tuned(GetParam(), kRounded, {loftq(3)});
  const Json config = tuned.method().peft_config();
  EXPECT_EQ(config.at("init_lora_weights"), true);
  for (const auto& [path, rank] : config.at("rank_pattern").items())
    EXPECT_EQ(rank, path.find("x_proj") == std::string::npos ? 6 : 12) << path;
  EXPECT_FALSE(config.at("rank_pattern").empty());
}

INSTANTIATE_TEST_SUITE_P(Cases, Loftq, ::testing::Values("tied_small", "untied_odd"),
                         [](const auto& info) { return std::string(info.param); });

TEST(LoftqOptions, OtherPartsThanLinearsAndAdaptersOfPeftAreRefused) {
  EXPECT_THROW(TunedModel("tied_small", kRounded,
                          {testing::with<peft::Lora>({.init_lora_weights = "loftq", .target_modules = {"conv1d"}})}),
               UsageError);
  const Json config{{"peft_type", "LORA"}, {"r", 4}, {"target_modules", {"x_proj"}}, {"init_lora_weights", "loftq"}};
  EXPECT_THROW(peft::Lora::from_peft(config, "adapter_config.json"), UsageError);
}

}  // namespace
}  // namespace molt

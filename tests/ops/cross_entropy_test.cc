#include "molt/ops/cross_entropy.h"

#include <limits>

#include "tests/cases/gradcheck.h"

namespace molt {
namespace {

using ops::kIgnore;
using testing::random_tensor;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// log Σ exp(row), in plain double.
double log_sum_exp(const std::vector<double>& row) {
  const double max = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const double x : row) sum += std::exp(x - max);
  return max + std::log(sum);
}

std::vector<double> row_of(const Tensor& x, size_t t) {
  const auto all = x.values();
  const auto n = static_cast<std::ptrdiff_t>(x.cols()), begin = static_cast<std::ptrdiff_t>(t) * n;
  return {all.begin() + begin, all.begin() + begin + n};
}

TEST(CrossEntropy, MatchesTheFormula) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    for (const int64_t vocabulary : {1, 7, 16, 33, 4101, 50280}) {
      const Tensor logits = random_tensor({5, vocabulary}, 1, 4, -20, dtype);
      const int32_t last = static_cast<int32_t>(vocabulary - 1);
      const std::vector<int32_t> labels = {0, kIgnore, last, last / 2, kIgnore};
      double expected = 0;
      for (size_t t = 0; t < labels.size(); ++t) {
        if (labels[t] == kIgnore) continue;
        const auto row = row_of(logits, t);
        expected += log_sum_exp(row) - row[static_cast<size_t>(labels[t])];
      }
      const Tensor loss = ops::cross_entropy(Var(logits), labels).value();
      EXPECT_EQ(loss.dtype(), Dtype::kF64);
      EXPECT_EQ(loss.shape(), Shape{1});
      // f32: exp is good to 6e-8 and runs of 2048 are summed in f32; everything after is double.
      EXPECT_NEAR(loss.values()[0], expected, dtype == Dtype::kF32 ? 1e-6 : 1e-12) << "V = " << vocabulary;
    }
  }
}

TEST(CrossEntropy, Gradients) {
  testing::check_gradients({random_tensor({6, 21}, 2, 3)}, [](const std::vector<Var>& in) {
    return std::vector<Var>{ops::cross_entropy(in[0], {20, kIgnore, 0, 7, kIgnore, 20})};
  });
}

TEST(CrossEntropy, GradientInF32TakesTheLogitsMemory) {
  const Tensor logits = random_tensor({3, 1000}, 3, 3, 0, Dtype::kF32);
  const std::vector<int32_t> labels = {999, kIgnore, 5};
  std::vector<double> expected;
  for (size_t t = 0; t < 3; ++t) {
    auto row = row_of(logits, t);
    const double lse = log_sum_exp(row);
    for (size_t v = 0; v < row.size(); ++v)
      row[v] = labels[t] == kIgnore ? 0 : 0.25 * (std::exp(row[v] - lse) - (static_cast<int32_t>(v) == labels[t]));
    expected.insert(expected.end(), row.begin(), row.end());
  }
  const Var x = Var::leaf(logits);
  backward(ops::cross_entropy(x, labels), Tensor::from<double>({0.25}, {1}));
  EXPECT_EQ(x.grad().raw(), logits.raw());
  EXPECT_LT(testing::relative_error(x.grad().values(), expected), 2e-7);  // roundings of exp, difference and product
}

TEST(CrossEntropy, WorksOnAViewAndOnNothing) {
  const Tensor wide = random_tensor({3, 70}, 4, 2), view = wide.col_range(2, 37);
  const double expected = ops::cross_entropy(Var(view.clone()), {0, 36, 4}).value().values()[0];
  EXPECT_EQ(ops::cross_entropy(Var(view), {0, 36, 4}).value().values()[0], expected);

  EXPECT_EQ(ops::cross_entropy(Var(wide), {kIgnore, kIgnore, kIgnore}).value().values()[0], 0);
  const Var none = Var::leaf(Tensor::zeros({0, 5}, Dtype::kF32));
  const Var loss = ops::cross_entropy(none, {});
  EXPECT_EQ(loss.value().values()[0], 0);
  backward(loss);
}

TEST(CrossEntropy, HandlesExtremeLogits) {
  auto loss = [](std::vector<double> row, Dtype dtype) {
    const auto n = static_cast<int64_t>(row.size());
    return ops::cross_entropy(Var(Tensor::from(row, {1, n}).to(dtype)), {0}).value().values()[0];
  };
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    EXPECT_EQ(loss({3e4, -3e4, 0}, dtype), 0);
    EXPECT_EQ(loss({-3e4, 3e4, 0}, dtype), 6e4);
    EXPECT_NEAR(loss({1, -kInfinity, 1}, dtype), std::log(2), 1e-7);  // an entry that is masked out
    EXPECT_EQ(loss({-kInfinity, 0, 0}, dtype), kInfinity);
    for (const double bad : {std::nan(""), kInfinity}) {
      for (const size_t at : {0u, 5u, 40u}) {
        std::vector<double> row(41, 1.0);
        row[at] = bad;
        // A loss that is not finite is how training notices that it diverged.
        EXPECT_FALSE(std::isfinite(loss(row, dtype))) << bad << " at " << at;
      }
    }
  }
}

TEST(CrossEntropy, SameBitsAgain) {
  const Tensor logits = random_tensor({9, 513}, 5, 3, 0, Dtype::kF32);
  const std::vector<int32_t> labels = {1, 2, 3, 4, 5, 6, 7, 8, 512};
  const auto once = ops::cross_entropy(Var(logits), labels).value().values();
  EXPECT_EQ(ops::cross_entropy(Var(logits), labels).value().values(), once);
}

TEST(CrossEntropy, RefusesLabelsOutside) {
  const Var logits(random_tensor({2, 5}, 6));
  EXPECT_THROW(ops::cross_entropy(logits, {0, 5}), InternalError);
  EXPECT_THROW(ops::cross_entropy(logits, {0, -1}), InternalError);
  EXPECT_THROW(ops::cross_entropy(logits, {0}), InternalError);
}

TEST(RowLogProbs, LogProbabilityAndArgmax) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    const Tensor logits = random_tensor({4, 1003}, 7, 3, 0, dtype);
    const std::vector<int32_t> ids = {1002, kIgnore, 17, 0};
    const auto result = ops::row_log_probs(logits, ids);
    for (size_t t = 0; t < 4; ++t) {
      const auto row = row_of(logits, t);
      EXPECT_EQ(result.argmax[t], std::max_element(row.begin(), row.end()) - row.begin());
      const double expected = ids[t] == kIgnore ? 0 : row[static_cast<size_t>(ids[t])] - log_sum_exp(row);
      EXPECT_NEAR(result.log_prob[t], expected, dtype == Dtype::kF32 ? 1e-6 : 1e-12);
    }
    const auto greedy = ops::row_log_probs(logits, {});
    EXPECT_EQ(greedy.argmax, result.argmax);
    EXPECT_TRUE(greedy.log_prob.empty());
  }
}

TEST(RowLogProbs, FirstOfEquals) {
  std::vector<float> row(40, 1.0f);
  for (const size_t first : {3u, 33u, 39u}) {
    std::vector<float> tied = row;
    for (size_t i = first; i < tied.size(); i += 3) tied[i] = 2.0f;
    EXPECT_EQ(ops::row_log_probs(Tensor::from(tied, {1, 40}), {}).argmax[0], static_cast<int32_t>(first));
  }
}

}  // namespace
}  // namespace molt

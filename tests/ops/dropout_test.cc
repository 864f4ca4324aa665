#include "molt/ops/dropout.h"

#include "tests/cases/gradcheck.h"

namespace molt {
namespace {

using testing::random_tensor;

constexpr uint64_t kKey = mix_keys(mix_keys(42, 7), hash_name("layers.3.in_proj"));

/// Whether entry (row, column) is dropped, from the scalar generator.
bool dropped(double p, uint64_t key, uint64_t row, uint32_t column) {
  const uint32_t block = column / 64 * 16 + column % 16;
  const auto words = philox({block, static_cast<uint32_t>(row), static_cast<uint32_t>(row >> 32), 0}, key);
  return words[column / 16 % 4] < p * 0x1p32;
}

TEST(Dropout, FollowsTheScalarGenerator) {
  const int64_t rows = 3, cols = 201;
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64, Dtype::kBf16}) {
    for (const int64_t first_row : {int64_t{0}, (int64_t{1} << 33) + 5}) {
      Tensor x = Tensor::empty({rows, cols}, dtype);
      x.fill(3);
      const auto y = ops::dropout(Var(x), 0.25, kKey, first_row).value().values();
      for (int64_t t = 0; t < rows; ++t) {
        for (int64_t c = 0; c < cols; ++c) {
          const bool gone = dropped(0.25, kKey, static_cast<uint64_t>(first_row + t), static_cast<uint32_t>(c));
          const float kept = 3 * static_cast<float>(1 / 0.75);
          EXPECT_EQ(static_cast<float>(y[static_cast<size_t>(t * cols + c)]), gone ? 0 : kept);
        }
      }
    }
  }
}

TEST(Dropout, DropsTheShareAsked) {
  for (const double p : {0.05, 0.5, 0.9}) {
    Tensor x = Tensor::empty({500, 400}, Dtype::kF32);
    x.fill(1);
    double zeros = 0, sum = 0;
    for (const double v : ops::dropout(Var(x), p, kKey).value().values()) zeros += v == 0, sum += v;
    const double n = 2e5, deviation = std::sqrt(p * (1 - p) / n);
    EXPECT_NEAR(zeros / n, p, 4 * deviation);  // four standard deviations of a binomial share
    EXPECT_NEAR(sum / n, 1, 4 * deviation / (1 - p) + 1e-6);
  }
}

TEST(Dropout, DependsOnTheRowInTheStepNotOnTheSplit) {
  const Tensor x = random_tensor({9, 70}, 1);
  const auto whole = ops::dropout(Var(x), 0.3, kKey).value().values();
  const auto part = ops::dropout(Var(x.row_range(4, 5)), 0.3, kKey, 4).value().values();
  EXPECT_EQ(part, std::vector<double>(whole.begin() + 4 * 70, whole.end()));
  EXPECT_NE(ops::dropout(Var(x), 0.3, kKey + 1).value().values(), whole);
}

TEST(Dropout, Gradients) {
  testing::check_gradients({random_tensor({4, 83}, 2)}, [](const std::vector<Var>& in) {
    return std::vector<Var>{ops::dropout(in[0], 0.4, kKey, 11)};
  });
}

TEST(Dropout, AddsOntoAGradientThatIsThere) {
  const Var x = Var::leaf(random_tensor({3, 70}, 3));
  backward(ops::dropout(x, 0.5, kKey));
  const auto once = x.grad().values();
  backward(ops::dropout(x, 0.5, kKey));
  for (size_t i = 0; i < once.size(); ++i) EXPECT_EQ(x.grad().values()[i], 2 * once[i]);
}

TEST(Dropout, NothingToDrop) {
  const Var x = Var::leaf(random_tensor({3, 7}, 4));
  EXPECT_EQ(ops::dropout(x, 0, kKey).node(), x.node());
  EXPECT_THROW(ops::dropout(x, 1, kKey), InternalError);
  EXPECT_THROW(ops::dropout(x, -0.1, kKey), InternalError);
}

}  // namespace
}  // namespace molt

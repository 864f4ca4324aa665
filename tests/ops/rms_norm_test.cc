#include "molt/ops/rms_norm.h"

#include "tests/cases/gradcheck.h"

namespace molt {
namespace {

using testing::random_tensor;

TEST(RmsNorm, MatchesTheFormula) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    const Tensor x = random_tensor({5, 37}, 1, 2, 0.5), w = random_tensor({37}, 2);
    const Tensor y = ops::rms_norm(Var(x.to(dtype)), Var(w.to(dtype)), 1e-5).value();
    std::vector<double> expected;
    for (int64_t t = 0; t < 5; ++t) {
      double sum = 0;
      for (int64_t i = 0; i < 37; ++i) sum += x.data<double>()[t * 37 + i] * x.data<double>()[t * 37 + i];
      for (int64_t i = 0; i < 37; ++i)
        expected.push_back(x.data<double>()[t * 37 + i] / std::sqrt(sum / 37 + 1e-5) * w.data<double>()[i]);
    }
    // f32: a sum of 37 squares and three roundings, each 6e-8.
    EXPECT_LT(testing::relative_error(y.values(), expected), dtype == Dtype::kF32 ? 5e-7 : 1e-14);
  }
}

TEST(RmsNorm, Gradients) {
  testing::check_gradients(
      {random_tensor({4, 19}, 3), random_tensor({19}, 4)},
      [](const std::vector<Var>& in) { return std::vector<Var>{ops::rms_norm(in[0], in[1], 1e-5)}; }, {"x", "weight"});
}

TEST(RmsNorm, AddsOntoAGradientThatIsThere) {
  const Var x = Var::leaf(random_tensor({3, 8}, 5)), w(random_tensor({8}, 6));
  backward(ops::rms_norm(x, w, 1e-5));
  const Tensor once = x.grad().clone();
  backward(ops::rms_norm(x, w, 1e-5));
  Tensor twice = once.clone();
  twice.add(once);
  EXPECT_EQ(x.grad().values(), twice.values());
}

}  // namespace
}  // namespace molt

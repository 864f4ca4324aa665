// The products that every model and most methods are made of: values against plain loops, gradients against
// differences.
#include "molt/ops/linear.h"

#include "molt/ops/dense_add.h"
#include "molt/ops/low_rank.h"
#include "molt/ops/reshape.h"
#include "molt/tensor/matrix_view.h"
#include "tests/cases/gradcheck.h"

namespace molt {
namespace {

using testing::check_gradients;
using testing::random_tensor;
using testing::relative_error;
using Vars = std::vector<Var>;

std::shared_ptr<const PackedMatrix> packed(const Tensor& weight) {
  return std::make_shared<PackedMatrix>(matrix_view(weight), PackOptions{.compute = Dtype::kF64});
}

/// a (T, I) · bᵀ for b (O, I), row by row.
std::vector<double> product(const Tensor& a, const Tensor& b) {
  const auto x = a.values(), w = b.values();
  const auto T = static_cast<size_t>(a.rows()), I = static_cast<size_t>(a.cols()), O = static_cast<size_t>(b.rows());
  std::vector<double> y(T * O);
  for (size_t t = 0; t < T; ++t) {
    for (size_t o = 0; o < O; ++o) {
      for (size_t i = 0; i < I; ++i) y[t * O + o] += x[t * I + i] * w[o * I + i];
    }
  }
  return y;
}

TEST(Linear, IsTheProductWithTheWeightAndItsBias) {
  const Tensor x = random_tensor({6, 5}, 1), W = random_tensor({4, 5}, 2), b = random_tensor({4}, 3);
  std::vector<double> expected = product(x, W);
  // Sums of five products in f64.
  EXPECT_LT(relative_error(ops::linear(Var(x), packed(W)).value().values(), expected), 1e-14);
  for (size_t i = 0; i < expected.size(); ++i) expected[i] += b.values()[i % 4];
  EXPECT_LT(relative_error(ops::linear(Var(x), packed(W), {}, Var(b)).value().values(), expected), 1e-14);
}

TEST(Linear, Gradients) {
  const Tensor x = random_tensor({6, 5}, 1), W = random_tensor({4, 5}, 2), b = random_tensor({4}, 3);
  const auto frozen = packed(W);
  check_gradients({x}, [&](const Vars& in) { return Vars{ops::linear(in[0], frozen)}; }, {"x"});
  check_gradients({x, b}, [&](const Vars& in) { return Vars{ops::linear(in[0], frozen, {}, in[1])}; }, {"x", "bias"});
  // A weight that trains is packed again whenever it moves, as after a step.
  check_gradients({x, W, b},
                  [&](const Vars& in) { return Vars{ops::linear(in[0], packed(in[1].value()), in[1], in[2])}; },
                  {"x", "W", "bias"});
  // Towards the weight alone, as in the lowest layer.
  check_gradients({W}, [&](const Vars& in) { return Vars{ops::linear(Var(x), packed(in[0].value()), in[0])}; }, {"W"});
}

TEST(LowRank, AddsToItsColumns) {
  const Tensor y = random_tensor({6, 7}, 1), x = random_tensor({6, 5}, 2), A = random_tensor({2, 5}, 3),
               B = random_tensor({4, 2}, 4);
  std::vector<double> expected = y.values();
  const std::vector<double> u = product(x, A);
  for (size_t t = 0; t < 6; ++t) {
    for (size_t o = 0; o < 4; ++o) {
      for (size_t r = 0; r < 2; ++r) expected[t * 7 + 2 + o] += 0.5 * u[t * 2 + r] * B.values()[o * 2 + r];
    }
  }
  EXPECT_LT(relative_error(ops::low_rank(Var(y), Var(x), Var(A), Var(B), 0.5, 2).value().values(), expected), 1e-14);
}

TEST(LowRank, Gradients) {
  const Tensor y = random_tensor({6, 7}, 1), x = random_tensor({6, 5}, 2), A = random_tensor({2, 5}, 3),
               B = random_tensor({4, 2}, 4);
  check_gradients({y, x, A, B}, [](const Vars& in) { return Vars{ops::low_rank(in[0], in[1], in[2], in[3], 0.5, 2)}; },
                  {"y", "x", "A", "B"});
  check_gradients({A, B}, [&](const Vars& in) { return Vars{ops::low_rank(Var(y.clone()), Var(x), in[0], in[1], 2)}; },
                  {"A", "B"});
}

TEST(DenseAdd, ValuesAndGradients) {
  const Tensor y = random_tensor({6, 4}, 1), x = random_tensor({6, 5}, 2), delta = random_tensor({4, 5}, 3);
  std::vector<double> expected = product(x, delta);
  for (size_t i = 0; i < expected.size(); ++i) expected[i] += y.values()[i];
  EXPECT_LT(relative_error(ops::dense_add(Var(y.clone()), Var(x), Var(delta)).value().values(), expected), 1e-14);
  check_gradients({y, x, delta}, [](const Vars& in) { return Vars{ops::dense_add(in[0], in[1], in[2])}; },
                  {"y", "x", "delta"});
}

TEST(Reshape, ValuesAndGradients) {
  const Tensor x = random_tensor({6, 4}, 1);
  const Tensor y = ops::reshape(Var(x), {3, 2, 4}).value();
  EXPECT_EQ(y.shape(), (Shape{3, 2, 4}));
  EXPECT_EQ(y.values(), x.values());
  check_gradients({x}, [](const Vars& in) { return Vars{ops::reshape(in[0], {2, 12})}; });
}

}  // namespace
}  // namespace molt

#include "molt/ops/repeat.h"

#include "tests/cases/gradcheck.h"

namespace molt {
namespace {

using testing::random_tensor;

TEST(Repeat, Copies) {
  const Tensor x = random_tensor({2, 3}, 1);
  const Tensor y = ops::repeat(Var(x), 3).value();
  EXPECT_EQ(y.shape(), (Shape{3, 2, 3}));
  for (int64_t s = 0; s < 3; ++s) EXPECT_EQ(y.row_range(s, 1).values(), x.values());
  EXPECT_EQ(ops::repeat(Var(x), 0).value().shape(), (Shape{0, 2, 3}));
  EXPECT_EQ(ops::repeat_first(Var(x.reshape({1, 2, 3})), 4).value().shape(), (Shape{4, 2, 3}));
  EXPECT_EQ(ops::repeat_first(Var(x.reshape({1, 2, 3})), 1).value().raw(), x.raw());
  EXPECT_THROW(ops::repeat_first(Var(x), 2), InternalError);
}

TEST(Repeat, Gradients) {
  for (const int64_t count : {1, 4}) {
    testing::check_gradients({random_tensor({2, 3}, 2)}, [count](const std::vector<Var>& in) {
      return std::vector<Var>{ops::repeat(in[0], count)};
    });
    testing::check_gradients({random_tensor({1, 2, 3}, 3)}, [count](const std::vector<Var>& in) {
      return std::vector<Var>{ops::repeat_first(in[0], count)};
    });
  }
}

TEST(Repeat, AddsToAGradientThatIsThere) {
  const Var x = Var::leaf(random_tensor({2}, 4));
  for (const double seed : {1.0, 10.0}) {
    Tensor dy = Tensor::zeros({3, 2}, Dtype::kF64);
    dy.fill(seed);
    backward(ops::repeat(x, 3), dy);
  }
  EXPECT_EQ(x.grad().values(), (std::vector<double>{33, 33}));
}

}  // namespace
}  // namespace molt

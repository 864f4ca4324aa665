// What must live while backward() runs, and what must not live after it.
#include "molt/ops/add.h"
#include "tests/cases/gradcheck.h"

namespace molt {
namespace {

using testing::random_tensor;

/// y = x², which saves x.
struct Square {
  static constexpr const char* kName = "square";
  Tensor x{};
  Tensor forward(const Needs& needs, const Tensor& x_in) {
    if (needs.any()) x = x_in;
    Tensor y = x_in.clone();
    for (int64_t r = 0; r < y.rows(); ++r) {
      for (int64_t i = 0; i < y.cols(); ++i) y.data<double>()[r * y.ld() + i] *= y.data<double>()[r * y.ld() + i];
    }
    return y;
  }
  void backward(const Tensor& dy, Grads& d) const {
    const GradOut dx = d.out(0);
    for (int64_t r = 0; r < dy.rows(); ++r) {
      for (int64_t i = 0; i < dy.cols(); ++i) {
        double& g = dx.tensor.data<double>()[r * dx.tensor.ld() + i];
        const double v = 2 * x.data<double>()[r * x.ld() + i] * dy.data<double>()[r * dy.ld() + i];
        g = dx.accumulate ? g + v : v;
      }
    }
  }
};
Var square(const Var& x) { return record(Square{}, x); }

TEST(Lifetime, GradientsReachThroughValuesNobodyHolds) {
  testing::check_gradients({random_tensor({2, 3}, 1)},
                           [](const std::vector<Var>& in) { return std::vector<Var>{square(square(square(in[0])))}; });
}

TEST(Lifetime, SlicesNobodyHoldsKeepTheirColumns) {
  testing::check_gradients({random_tensor({2, 5}, 2)}, [](const std::vector<Var>& in) {
    Var left, right;
    {
      const Var wide = square(in[0]);
      left = square(wide.columns(0, 2));
      right = square(wide.columns(2, 2));  // the last column is used by nobody
    }
    return std::vector<Var>{ops::add(left, right)};
  });
}

TEST(Lifetime, SlicesOfALeafAddUpOverPasses) {
  const Var x = Var::leaf(random_tensor({2, 5}, 4));
  std::vector<double> expected(10, 0);
  for (int pass = 0; pass < 3; ++pass) {
    for (const auto& [begin, count] : {std::pair{1, 3}, {2, 3}}) {
      backward(square(x.columns(begin, count)));
      for (int64_t e = 0; e < 10; ++e)
        if (e % 5 >= begin && e % 5 < begin + count) expected[e] += 2 * x.value().data<double>()[e];
    }
  }
  EXPECT_LT(testing::relative_error(x.grad().values(), expected), 1e-15);  // six additions
}

TEST(Lifetime, SlicesMayOverlap) {
  testing::check_gradients({random_tensor({2, 5}, 5)}, [](const std::vector<Var>& in) {
    const Var wide = square(in[0]);
    const Var sum = ops::add(square(wide.columns(0, 2)), square(wide.columns(1, 2)));
    return std::vector<Var>{ops::add(square(wide.columns(1, 2)), sum)};
  });
}

TEST(Lifetime, SavedTensorsGoWhenTheirOpHasRun) {
  Tensor watched = random_tensor({2, 3}, 3);
  const Var x = Var::leaf(watched);
  {
    const Var middle = square(x);
    const Var y = square(middle);
    const long before = watched.shared_count();
    backward(y);
    EXPECT_EQ(watched.shared_count(), before - 1);  // though `middle` still stands, what made it does not
  }
  EXPECT_EQ(watched.shared_count(), 2);  // here and in x
}

}  // namespace
}  // namespace molt

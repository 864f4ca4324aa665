#include "molt/ops/tanh.h"

#include <cmath>

#include "molt/ops/concat_columns.h"
#include "tests/cases/gradcheck.h"

namespace molt {
namespace {

using testing::random_tensor;

TEST(Tanh, ValuesAndGradients) {
  const Tensor x = random_tensor({3, 5}, 1, 2);
  std::vector<double> expected = x.values();
  for (double& v : expected) v = std::tanh(v);
  EXPECT_EQ(ops::tanh(Var(x)).value().values(), expected);
  testing::check_gradients({x}, [](const std::vector<Var>& in) { return std::vector<Var>{ops::tanh(in[0])}; });
  testing::check_gradients({random_tensor({3, 6}, 2)}, [](const std::vector<Var>& in) {
    return std::vector<Var>{ops::concat_columns(ops::tanh(in[0].columns(0, 2)), ops::tanh(in[0].columns(2, 4)))};
  });
}

}  // namespace
}  // namespace molt

#include "molt/ops/add.h"

#include "molt/ops/rms_norm.h"
#include "tests/cases/gradcheck.h"

namespace molt {
namespace {

using testing::random_tensor;

TEST(Add, WritesTheSumIntoTheSecond) {
  const Tensor a = random_tensor({3, 11}, 1), b = random_tensor({3, 11}, 2);
  const auto before = b.values(), other = a.values();
  const Tensor y = ops::add(Var(a), Var(b)).value();
  EXPECT_EQ(y.raw(), b.raw());
  for (size_t i = 0; i < before.size(); ++i) EXPECT_EQ(y.values()[i], before[i] + other[i]);
  EXPECT_EQ(a.values(), other);
}

TEST(Add, Gradients) {
  testing::check_gradients({random_tensor({4, 19}, 3), random_tensor({4, 19}, 4)},
                           [](const std::vector<Var>& in) { return std::vector<Var>{ops::add(in[0], in[1])}; });
}

// Both inputs get the same memory as gradient; whoever adds to one of them must not change the other.
TEST(Add, GradientsOfAResidualStream) {
  testing::check_gradients({random_tensor({4, 19}, 5), random_tensor({19}, 6)}, [](const std::vector<Var>& in) {
    Var x = in[0];
    for (int layer = 0; layer < 3; ++layer) x = ops::add(x, ops::rms_norm(x, in[1], 1e-5));
    return std::vector<Var>{x};
  });
}

TEST(Add, RefusesOtherShapes) {
  EXPECT_THROW(ops::add(Var(random_tensor({2, 3}, 1)), Var(random_tensor({3, 2}, 1))), InternalError);
}

}  // namespace
}  // namespace molt

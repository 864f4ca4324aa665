#include "molt/ops/concat_columns.h"

#include "molt/ops/scatter_entries.h"
#include "tests/cases/gradcheck.h"

namespace molt {
namespace {

using testing::random_tensor;

TEST(ConcatColumns, PutsThemBesideEachOther) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    const Tensor a = random_tensor({4, 5}, 1, 1, 0, dtype).col_range(1, 2), b = random_tensor({4, 3}, 2, 1, 0, dtype);
    const Tensor y = ops::concat_columns(Var(a), Var(b)).value();
    EXPECT_EQ(y.shape(), (Shape{4, 5}));
    EXPECT_EQ(y.col_range(0, 2).values(), a.values());
    EXPECT_EQ(y.col_range(2, 3).values(), b.values());
  }
  const Tensor state = random_tensor({2, 3, 2}, 3);
  const Tensor wide = ops::pad_columns(Var(state), 5).value();
  EXPECT_EQ(wide.shape(), (Shape{2, 3, 5}));
  EXPECT_EQ(wide.reshape({6, 5}).col_range(0, 2).values(), state.values());
  for (const double v : wide.reshape({6, 5}).col_range(2, 3).values()) EXPECT_EQ(v, 0);
  EXPECT_EQ(ops::pad_columns(Var(state), 2).value().raw(), state.raw());
  EXPECT_THROW(ops::concat_columns(Var(random_tensor({4, 5}, 1)), Var(random_tensor({3, 5}, 1))), InternalError);
}

TEST(ConcatColumns, Gradients) {
  testing::check_gradients({random_tensor({4, 2}, 4), random_tensor({4, 3}, 5)}, [](const std::vector<Var>& in) {
    return std::vector<Var>{ops::concat_columns(in[0], in[1])};
  });
  testing::check_gradients({random_tensor({2, 3, 2}, 6)},
                           [](const std::vector<Var>& in) { return std::vector<Var>{ops::pad_columns(in[0], 5)}; });
  // Slices of a fused product, as B and C are.
  testing::check_gradients({random_tensor({4, 6}, 7), random_tensor({4, 3}, 8)}, [](const std::vector<Var>& in) {
    return std::vector<Var>{ops::concat_columns(in[0].columns(1, 2), in[1])};
  });
}

TEST(ConcatColumns, GivesAParameterTheRowsItAskedFor) {
  const Tensor base = random_tensor({5, 4}, 9), weights = random_tensor({5, 6}, 10);
  const Var delta = Var::leaf(random_tensor({2}, 11)), more = Var::leaf(random_tensor({5, 2}, 12));
  backward(ops::concat_columns(ops::scatter_entries(Var(base), delta, std::vector<int64_t>{6, 17}), more), weights);
  EXPECT_EQ(delta.grad().values(), (std::vector<double>{weights.values()[1 * 6 + 2], weights.values()[4 * 6 + 1]}));
  EXPECT_EQ(more.grad().values(), weights.col_range(4, 2).values());
}

}  // namespace
}  // namespace molt

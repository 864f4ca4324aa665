#include "molt/ops/sparse_columns.h"

#include "molt/ops/add.h"
#include "tests/cases/gradcheck.h"

namespace molt {
namespace {

using testing::random_tensor;

TEST(SparseColumns, MatchesTheDenseProduct) {
  const int64_t T = 7, I = 23, O = 17;
  const IndexSet columns = {0, 4, 5, 22};
  const auto S = static_cast<int64_t>(columns.size());
  struct Case {
    Dtype y, x;
    double tolerance;
  };
  // f32: five additions, 6e-8 each; bf16 values of x are exact in the expectation too.
  for (const Case c :
       {Case{Dtype::kF64, Dtype::kF64, 1e-15}, {Dtype::kF32, Dtype::kF32, 3e-7}, {Dtype::kF32, Dtype::kBf16, 3e-7}}) {
    const Tensor wide = random_tensor({T, O + 5}, 1, 1, 0, c.y), y = wide.col_range(2, O);
    const Tensor x = random_tensor({T, I}, 2, 1, 0, c.x), delta = random_tensor({O, S}, 3, 1, 0, c.y);
    auto expected = wide.values();
    const auto xv = x.values(), dv = delta.values();
    for (int64_t t = 0; t < T; ++t) {
      for (int64_t o = 0; o < O; ++o) {
        for (int64_t s = 0; s < S; ++s) expected[t * (O + 5) + 2 + o] += xv[t * I + columns[s]] * dv[o * S + s];
      }
    }
    const Tensor out = ops::sparse_columns(Var(y), Var(x), Var(delta), make_index_set(columns)).value();
    EXPECT_EQ(out.raw(), y.raw());
    EXPECT_LT(testing::relative_error(wide.values(), expected), c.tolerance);
  }
}

TEST(SparseColumns, Gradients) {
  testing::check_gradients(
      {random_tensor({6, 5}, 4), random_tensor({6, 11}, 5), random_tensor({5, 3}, 6)},
      [](const std::vector<Var>& in) {
        return std::vector<Var>{ops::sparse_columns(in[0], in[1], in[2], make_index_set({1, 2, 10}))};
      },
      {"y", "x", "delta"});
}

// Two changes of the same product: gradients of x and of a shared delta are added up.
TEST(SparseColumns, GradientsAddUp) {
  testing::check_gradients({random_tensor({6, 5}, 7), random_tensor({6, 11}, 8), random_tensor({5, 3}, 9)},
                           [](const std::vector<Var>& in) {
                             const Var y = ops::sparse_columns(in[0], in[1], in[2], make_index_set({1, 2, 10}));
                             return std::vector<Var>{ops::sparse_columns(y, in[1], in[2], make_index_set({0, 2, 3}))};
                           },
                           {"y", "x", "delta"});
}

TEST(SparseColumns, InSlicesOfAWiderProduct) {
  testing::check_gradients(
      {random_tensor({6, 7}, 10), random_tensor({6, 4}, 11), random_tensor({3, 2}, 12)},
      [](const std::vector<Var>& in) {
        const Var slice = ops::sparse_columns(in[0].columns(1, 3), in[1], in[2], make_index_set({0, 3}));
        return std::vector<Var>{ops::add(in[0].columns(4, 3), slice)};
      },
      {"y", "x", "delta"});
}

TEST(SparseColumns, OnSomeColumnsOfY) {
  testing::check_gradients(
      {random_tensor({6, 7}, 10), random_tensor({6, 4}, 11), random_tensor({3, 2}, 12)},
      [](const std::vector<Var>& in) {
        return std::vector<Var>{ops::sparse_columns(in[0], in[1], in[2], make_index_set({0, 3}), 2)};
      },
      {"y", "x", "delta"});
  const Tensor y = random_tensor({6, 7}, 13);
  const Var x(random_tensor({6, 4}, 14)), delta(random_tensor({3, 2}, 15));
  const Tensor copy = y.clone();
  ops::sparse_columns(Var(y), x, delta, make_index_set({0, 3}), 2);
  ops::sparse_columns(Var(copy.col_range(2, 3)), x, delta, make_index_set({0, 3}));
  EXPECT_EQ(y.values(), copy.values());
}

TEST(SparseColumns, KeepsTheChosenColumnsOnly) {
  const Tensor x = random_tensor({6, 11}, 13);
  const Var delta = Var::leaf(random_tensor({5, 2}, 14));
  const Var y = ops::sparse_columns(Var(random_tensor({6, 5}, 15)), Var(x), delta, make_index_set({1, 2}));
  EXPECT_EQ(x.shared_count(), 1);
  backward(y);
  EXPECT_TRUE(delta.grad().defined());
}

TEST(SparseColumns, NoColumns) {
  const Tensor y = random_tensor({6, 5}, 16);
  const auto before = y.values();
  const Var delta = Var::leaf(Tensor::zeros({5, 0}, Dtype::kF64)), x(random_tensor({6, 11}, 17));
  const Var out = ops::sparse_columns(Var(y), x, delta, make_index_set({}));
  EXPECT_EQ(out.value().values(), before);
  backward(out);
}

TEST(SparseColumns, RefusesWrongShapes) {
  const Var y(random_tensor({6, 5}, 1)), x(random_tensor({6, 11}, 1)), delta(random_tensor({5, 2}, 1));
  EXPECT_THROW(ops::sparse_columns(y, x, delta, make_index_set({1, 11})), InternalError);
  EXPECT_THROW(ops::sparse_columns(y, x, delta, make_index_set({1, 2, 3})), InternalError);
  EXPECT_THROW(ops::sparse_columns(y, x, delta, make_index_set({1, 2}), 1), InternalError);
  EXPECT_THROW(ops::sparse_columns(y, Var(random_tensor({5, 11}, 1)), delta, make_index_set({1, 2})), InternalError);
}

}  // namespace
}  // namespace molt

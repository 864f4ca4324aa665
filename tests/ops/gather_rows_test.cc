#include "molt/ops/gather_rows.h"

#include "molt/ops/embedding.h"
#include "tests/cases/gradcheck.h"

namespace molt {
namespace {

using testing::random_tensor;

TEST(GatherRows, TakesTheRowsOfAView) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64, Dtype::kBf16}) {
    const Tensor wide = random_tensor({6, 40}, 1).to(dtype), x = wide.col_range(3, 29);
    const std::vector<int64_t> rows = {5, 0, 0, 3};
    const Tensor y = ops::gather_rows(Var(x), rows).value();
    ASSERT_EQ(y.shape(), (Shape{4, 29}));
    EXPECT_EQ(y.dtype(), dtype);
    const auto all = wide.values(), got = y.values();
    for (size_t r = 0; r < rows.size(); ++r) {
      for (size_t i = 0; i < 29; ++i) EXPECT_EQ(got[r * 29 + i], all[static_cast<size_t>(rows[r]) * 40 + 3 + i]);
    }
  }
}

TEST(GatherRows, Gradients) {
  testing::check_gradients({random_tensor({5, 131}, 2)}, [](const std::vector<Var>& in) {
    return std::vector<Var>{ops::gather_rows(in[0], {4, 1, 1, 0})};
  });
}

TEST(GatherRows, AddsOntoAGradientThatIsThere) {
  const Var x = Var::leaf(random_tensor({3, 7}, 3));
  backward(ops::gather_rows(x, {2, 2}));
  backward(ops::gather_rows(x, {0, 2}));
  std::vector<double> expected;
  for (const double row : {1, 0, 3}) expected.insert(expected.end(), 7, row);
  EXPECT_EQ(x.grad().values(), expected);
}

TEST(GatherRows, NoRowsGiveAZeroGradient) {
  const Var x = Var::leaf(random_tensor({3, 7}, 3));
  backward(ops::gather_rows(x, {}));
  EXPECT_EQ(x.grad().values(), std::vector<double>(21, 0));
}

TEST(GatherRows, RefusesARowOutside) {
  const Var x(random_tensor({3, 7}, 3));
  EXPECT_THROW(ops::gather_rows(x, {3}), InternalError);
  EXPECT_THROW(ops::gather_rows(x, {-1}), InternalError);
}

TEST(Embedding, TakesRowsInAnyPrecision) {
  for (const Dtype stored : {Dtype::kF32, Dtype::kF64, Dtype::kBf16, Dtype::kF16}) {
    for (const Dtype out : {Dtype::kF32, Dtype::kF64}) {
      // Through f32 first: then every later conversion but the one to 16 bits is exact.
      const Tensor table = random_tensor({9, 21}, 4).to(Dtype::kF32).to(stored);
      const Tensor y = ops::embedding(Var(table), {8, 0, 8}, out).value();
      EXPECT_EQ(y.dtype(), out);
      const auto rows = table.values(), got = y.values();
      for (size_t i = 0; i < 21; ++i) {
        EXPECT_EQ(got[i], rows[8 * 21 + i]);
        EXPECT_EQ(got[21 + i], rows[i]);
        EXPECT_EQ(got[42 + i], rows[8 * 21 + i]);
      }
    }
  }
}

TEST(Embedding, Gradients) {
  testing::check_gradients({random_tensor({6, 10}, 5)}, [](const std::vector<Var>& in) {
    return std::vector<Var>{ops::embedding(in[0], {3, 5, 3, 0}, Dtype::kF64)};
  });
}

TEST(Embedding, GradientOfSomeRowsOnly) {
  const Tensor table = random_tensor({6, 10}, 6);
  const Var all = Var::leaf(table), some = Var::leaf(table, make_index_set({1, 3, 5}));
  for (const Var& v : {all, some}) backward(ops::embedding(v, {3, 5, 3, 0}, Dtype::kF64), random_tensor({4, 10}, 7));
  ASSERT_EQ(some.grad().shape(), (Shape{3, 10}));
  EXPECT_EQ(some.grad().values(), ops::gather_rows(Var(all.grad()), {1, 3, 5}).value().values());
}

TEST(Embedding, RefusesAnIdOutside) {
  const Var table(random_tensor({6, 10}, 5));
  EXPECT_THROW(ops::embedding(table, {0, 6}), InternalError);
  EXPECT_THROW(ops::embedding(table, {-100}), InternalError);
}

}  // namespace
}  // namespace molt

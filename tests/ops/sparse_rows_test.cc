#include "molt/ops/sparse_rows.h"

#include "molt/ops/set_columns.h"
#include "tests/cases/gradcheck.h"

namespace molt {
namespace {

using testing::random_tensor;

TEST(SparseRows, IsTheProductWithTheseRows) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    const Tensor x = random_tensor({7, 5}, 1, 1, 0, dtype), delta = random_tensor({5, 3}, 2, 1, 0, dtype);
    const Tensor y = random_tensor({7, 12}, 3, 1, 0, dtype);
    std::vector<double> expected = y.values();
    const auto xs = x.values(), ds = delta.values();
    const IndexSet rows{0, 3, 5};
    for (size_t t = 0; t < 7; ++t) {
      for (size_t s = 0; s < 3; ++s) {
        for (size_t i = 0; i < 5; ++i)
          expected[t * 12 + 4 + static_cast<size_t>(rows[s])] += xs[t * 5 + i] * ds[i * 3 + s];
      }
    }
    ops::sparse_rows(Var(y), Var(x), Var(delta), make_index_set(rows), 4, 6);
    EXPECT_LT(testing::relative_error(y.values(), expected), dtype == Dtype::kF32 ? 1e-6 : 1e-15);
  }
}

TEST(SparseRows, Gradients) {
  testing::check_gradients(
      {random_tensor({7, 12}, 4), random_tensor({7, 5}, 5), random_tensor({5, 3}, 6)},
      [](const std::vector<Var>& in) {
        return std::vector<Var>{ops::sparse_rows(in[0], in[1], in[2], make_index_set({0, 3, 5}), 4, 6)};
      },
      {"y", "x", "delta"});
  // Towards the change alone, as in the lowest layer.
  testing::check_gradients({random_tensor({5, 3}, 7)}, [](const std::vector<Var>& in) {
    return std::vector<Var>{ops::sparse_rows(Var(random_tensor({7, 12}, 8)), Var(random_tensor({7, 5}, 9)), in[0],
                                             make_index_set({1, 2, 4}), 0, 12)};
  });
}

TEST(SetColumns, HoldTheirNumber) {
  const Tensor y = random_tensor({3, 5}, 10);
  std::vector<double> expected = y.values();
  for (size_t t = 0; t < 3; ++t) expected[t * 5 + 1] = expected[t * 5 + 4] = -7;
  EXPECT_EQ(ops::set_columns(Var(y), make_index_set({1, 4}), -7).value().values(), expected);
  testing::check_gradients({random_tensor({3, 5}, 11)}, [](const std::vector<Var>& in) {
    return std::vector<Var>{ops::set_columns(in[0], make_index_set({1, 4}), -7)};
  });
}

}  // namespace
}  // namespace molt

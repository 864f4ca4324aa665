#include "molt/ops/scatter_entries.h"

#include "molt/ops/gather_rows.h"
#include "tests/cases/gradcheck.h"

namespace molt {
namespace {

using testing::random_tensor;

TEST(ScatterEntries, AddsAtThePlaces) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    const Tensor base = random_tensor({5, 4}, 1, 1, 0, dtype), delta = random_tensor({3}, 2, 1, 0, dtype);
    auto expected = base.values();
    const auto before = expected, d = delta.values();
    auto sum = [&](double a, double b) { return dtype == Dtype::kF32 ? double(float(a) + float(b)) : a + b; };
    for (const auto& [place, m] : {std::pair{17, 0}, {2, 1}, {19, 2}}) expected[place] = sum(before[place], d[m]);
    EXPECT_EQ(ops::scatter_entries(Var(base), Var(delta), std::vector<int64_t>{17, 2, 19}).value().values(), expected);
    EXPECT_EQ(base.values(), before);
  }
}

TEST(ScatterEntries, Gradients) {
  // Base and change; place 2 twice, and rows 1 and 2 not at all.
  testing::check_gradients(
      {random_tensor({5, 4}, 3), random_tensor({4}, 4)},
      [](const std::vector<Var>& in) {
        return std::vector<Var>{ops::scatter_entries(in[0], in[1], std::vector<int64_t>{17, 2, 19, 2})};
      },
      {"base", "delta"});
}

TEST(ScatterEntries, AsksForTheRowsItHolds) {
  const Tensor base = random_tensor({5, 4}, 5), weights = random_tensor({5, 4}, 6);
  const Var delta = Var::leaf(random_tensor({3}, 7));
  const Var y = ops::scatter_entries(Var(base), delta, std::vector<int64_t>{17, 2, 19});
  ASSERT_TRUE(y.node()->rows);
  EXPECT_EQ(*y.node()->rows, (IndexSet{0, 4}));
  backward(y, ops::gather_rows(Var(weights), {0, 4}).value());
  const auto w = weights.values();
  EXPECT_EQ(delta.grad().values(), (std::vector<double>{w[17], w[2], w[19]}));
}

TEST(ScatterEntries, ChangesOnTopOfChanges) {
  const Tensor base = random_tensor({6, 4}, 8), weights = random_tensor({6, 4}, 9);
  const Var first = Var::leaf(random_tensor({2}, 10)), second = Var::leaf(random_tensor({2}, 11));
  const Var y = ops::scatter_entries(ops::scatter_entries(Var(base), first, std::vector<int64_t>{5, 20}), second,
                                     std::vector<int64_t>{6, 12});
  ASSERT_EQ(*y.node()->rows, (IndexSet{1, 3, 5}));
  backward(y, ops::gather_rows(Var(weights), {1, 3, 5}).value());
  const auto w = weights.values();
  EXPECT_EQ(first.grad().values(), (std::vector<double>{w[5], w[20]}));
  EXPECT_EQ(second.grad().values(), (std::vector<double>{w[6], w[12]}));
}

TEST(ScatterEntries, AVector) {
  const Var delta = Var::leaf(random_tensor({2}, 12));
  backward(ops::scatter_entries(Var(random_tensor({7}, 13)), delta, std::vector<int64_t>{6, 1}),
           Tensor::from<double>({10, 60}, {2}));
  EXPECT_EQ(delta.grad().values(), (std::vector<double>{60, 10}));
}

TEST(ScatterEntries, RefusesPlacesOutside) {
  EXPECT_THROW(ops::make_entry_set({0, 20}, {5, 4}), InternalError);
  EXPECT_THROW(ops::make_entry_set({-1}, {5, 4}), InternalError);
  const Var base(random_tensor({5, 4}, 1));
  EXPECT_THROW(ops::scatter_entries(base, Var(random_tensor({2}, 1)), std::vector<int64_t>{3}), InternalError);
}

TEST(AddParam, Gradients) {
  testing::check_gradients({random_tensor({5, 4}, 14), random_tensor({5, 4}, 15)},
                           [](const std::vector<Var>& in) { return std::vector<Var>{ops::add_param(in[0], in[1])}; },
                           {"base", "delta"});
}

TEST(AddParam, KeepsItsInputsAndTheirRows) {
  const Tensor base = random_tensor({5, 4}, 16), weights = random_tensor({5, 4}, 17);
  const auto before = base.values();
  const Var some = Var::leaf(random_tensor({5, 4}, 18), make_index_set({1, 2}));
  const Var y = ops::add_param(Var(base), some);
  EXPECT_EQ(base.values(), before);
  ASSERT_EQ(*y.node()->rows, (IndexSet{1, 2}));
  const Var also = Var::leaf(random_tensor({5, 4}, 19));
  const Var z = ops::add_param(y, also);
  EXPECT_FALSE(z.node()->rows);
  backward(z, weights.clone());
  EXPECT_EQ(also.grad().values(), weights.values());
  EXPECT_EQ(some.grad().values(), ops::gather_rows(Var(weights), {1, 2}).value().values());
}

}  // namespace
}  // namespace molt

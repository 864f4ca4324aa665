// The ops behind adapters other than LoRA: values against plain loops, gradients against differences.
#include <cmath>

#include "molt/ops/add.h"
#include "molt/ops/folded_add.h"
#include "molt/ops/kron_add.h"
#include "molt/ops/param_products.h"
#include "molt/ops/permute_columns.h"
#include "molt/ops/rotate.h"
#include "molt/ops/scale_columns.h"
#include "molt/ops/skew_entries.h"
#include "molt/ops/token_rows.h"
#include "molt/ops/vector_low_rank.h"
#include "tests/cases/gradcheck.h"

namespace molt {
namespace {

using testing::check_gradients;
using testing::random_tensor;
using Vars = std::vector<Var>;

double at(const Tensor& t, int64_t r, int64_t c) { return t.data<double>()[r * t.ld() + c]; }

TEST(ScaleColumns, ValuesAndGradients) {
  const Tensor y = random_tensor({5, 7}, 1), k = random_tensor({3}, 2), b = random_tensor({3}, 3),
               divisor = random_tensor({3}, 4, 0.2, 1);
  const Tensor out = ops::scale_columns(Var(y.clone()), Var(k), 2, Var(b), divisor).value();
  for (int64_t t = 0; t < 5; ++t) {
    for (int64_t i = 0; i < 7; ++i) {
      const bool inside = i >= 2 && i < 5;
      const double f = inside ? k.values()[i - 2] / divisor.values()[i - 2] : 1, s = inside ? b.values()[i - 2] : 0;
      EXPECT_NEAR(at(out, t, i), f * (at(y, t, i) - s) + s, 1e-14);
    }
  }
  check_gradients({y, k, b}, [&](const Vars& in) { return Vars{ops::scale_columns(in[0], in[1], 2, in[2], divisor)}; });
  check_gradients({y, random_tensor({7}, 5)}, [](const Vars& in) { return Vars{ops::scaled(in[0], in[1])}; });
  // A factor that is its divisor leaves every bit.
  EXPECT_EQ(ops::scale_columns(Var(y.clone()), Var(k), 2, Var(b), k).value().values(), y.values());
}

TEST(PermuteColumns, ValuesAndGradients) {
  const auto order = std::make_shared<const std::vector<int64_t>>(std::vector<int64_t>{2, 0, 3, 1});
  const Tensor x = random_tensor({3, 4}, 1);
  const Tensor there = ops::permute_columns(Var(x), order).value();
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(at(there, t, i), at(x, t, (*order)[static_cast<size_t>(i)]));
  }
  EXPECT_EQ(ops::permute_columns(Var(there), order, true).value().values(), x.values());
  for (const bool inverse : {false, true})
    check_gradients({x}, [&](const Vars& in) { return Vars{ops::permute_columns(in[0], order, inverse)}; });
}

TEST(SkewEntries, ValuesAndGradients) {
  const Tensor M = random_tensor({2, 3, 3}, 1);
  const std::vector<double> m = M.values(), v = ops::skew_entries(Var(M)).value().values();
  ASSERT_EQ(v.size(), 6u);
  EXPECT_EQ(v[1], (m[2] - m[6]) / 2);          // (0, 2) of the first
  EXPECT_EQ(v[5], (m[9 + 5] - m[9 + 7]) / 2);  // (1, 2) of the second
  check_gradients({M}, [](const Vars& in) { return Vars{ops::skew_entries(in[0])}; });
}

TEST(FoldedAdd, ValuesAndGradients) {
  for (const int64_t inputs : {6, 8, 2}) {  // whole groups, a rest, less than one
    const Tensor y = random_tensor({4, 7}, 1), x = random_tensor({4, inputs}, 2), D = random_tensor({3, 5}, 3);
    const Tensor out = ops::folded_add(Var(y.clone()), Var(x), Var(D), 1).value();
    for (int64_t t = 0; t < 4; ++t) {
      for (int64_t o = 0; o < 5; ++o) {
        double sum = at(y, t, 1 + o);
        for (int64_t i = 0; i < inputs; ++i) sum += at(x, t, i) * at(D, i % 3, o);
        EXPECT_NEAR(at(out, t, 1 + o), sum, 1e-13);
      }
    }
    check_gradients({y, x, D}, [](const Vars& in) { return Vars{ops::folded_add(in[0], in[1], in[2], 1)}; });
  }
}

TEST(VectorLowRank, ValuesAndGradients) {
  const Tensor y = random_tensor({4, 7}, 1), x = random_tensor({4, 6}, 2), A = random_tensor({3, 6}, 3),
               d = random_tensor({3}, 4), B = random_tensor({5, 3}, 5), b = random_tensor({5}, 6);
  for (const bool with_b : {true, false}) {
    const Tensor out =
        ops::vector_low_rank(Var(y.clone()), Var(x), Var(A), Var(d), Var(B), with_b ? Var(b) : Var(), 0.7, 2).value();
    for (int64_t t = 0; t < 4; ++t) {
      for (int64_t o = 0; o < 5; ++o) {
        double sum = 0;
        for (int64_t r = 0; r < 3; ++r) {
          for (int64_t i = 0; i < 6; ++i) sum += at(B, o, r) * d.values()[r] * at(A, r, i) * at(x, t, i);
        }
        EXPECT_NEAR(at(out, t, 2 + o), at(y, t, 2 + o) + 0.7 * (with_b ? b.values()[o] : 1) * sum, 1e-13);
      }
    }
    check_gradients({y, x, A, d, B, with_b ? b : Tensor()}, [](const Vars& in) {
      return Vars{ops::vector_low_rank(in[0], in[1], in[2], in[3], in[4], in[5], 0.7, 2)};
    });
  }
}

TEST(KronAdd, ValuesAndGradients) {
  const int64_t L = 2, M = 3, K = 4, N = 5;
  const Tensor y = random_tensor({3, L * K + 2}, 1), wide = random_tensor({3, M * N + 3}, 2),
               W1 = random_tensor({L, M}, 3), W2 = random_tensor({K, N}, 4), x = wide.col_range(1, M * N);
  const Tensor out = ops::kron_add(Var(y.clone()), Var(x), Var(W1), Var(W2), 0.3, 1).value();
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t o = 0; o < L * K; ++o) {
      double sum = at(y, t, 1 + o);
      for (int64_t i = 0; i < M * N; ++i) sum += 0.3 * at(W1, o / K, i / N) * at(W2, o % K, i % N) * at(x, t, i);
      EXPECT_NEAR(at(out, t, 1 + o), sum, 1e-13);
    }
  }
  check_gradients({y, x.clone(), W1, W2},
                  [](const Vars& in) { return Vars{ops::kron_add(in[0], in[1], in[2], in[3], 0.3, 1)}; });
}

TEST(ParamProducts, ValuesAndGradients) {
  check_gradients({random_tensor({4, 2}, 1), random_tensor({2, 5}, 2)},
                  [](const Vars& in) { return Vars{ops::param_product(in[0], in[1], 1.5)}; });
  const Tensor a = random_tensor({4, 2}, 3), b = random_tensor({4, 3}, 4), c = random_tensor({2, 4}, 5),
               e = random_tensor({3, 4}, 6);
  const Tensor columns = ops::pair_products(Var(a), Var(b), false).value();
  const Tensor rows = ops::pair_products(Var(c), Var(e), true).value();
  for (int64_t i = 0; i < 4; ++i) {
    for (int64_t r = 0; r < 2; ++r) {
      for (int64_t s = 0; s < 3; ++s) {
        EXPECT_EQ(at(columns, i, r * 3 + s), at(a, i, r) * at(b, i, s));
        EXPECT_EQ(at(rows, r * 3 + s, i), at(c, r, i) * at(e, s, i));
      }
    }
  }
  check_gradients({a, b}, [](const Vars& in) { return Vars{ops::pair_products(in[0], in[1], false)}; });
  check_gradients({c, e}, [](const Vars& in) { return Vars{ops::pair_products(in[0], in[1], true)}; });
}

TEST(Rotate, CayleyIsARotationAndItsSeriesNearsIt) {
  const Tensor v = random_tensor({2, 6}, 1, 0.05);
  const Tensor exact = ops::cayley(Var(v), 4, 0).value();
  for (int64_t b = 0; b < 2; ++b) {
    const Tensor r = exact.row_range(b, 1).reshape({4, 4});
    for (int64_t i = 0; i < 4; ++i) {
      for (int64_t j = 0; j < 4; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < 4; ++k) sum += at(r, i, k) * at(r, j, k);
        EXPECT_NEAR(sum, i == j, 1e-14);
      }
    }
  }
  // PEFT's series is that of (I + Q)(I − Q)⁻¹, the transpose of its exact form; its last term counts once, so t terms
  // leave an error of |Q|^(t−1).
  const Tensor mirrored = random_tensor({2, 6}, 1, -0.05);
  const Tensor reversed = ops::cayley(Var(mirrored), 4, 0).value();
  double last = 1;
  for (const int64_t terms : {4, 5, 7, 9}) {
    const double error = testing::relative_error(ops::cayley(Var(v), 4, terms).value(), reversed);
    EXPECT_LT(error, 0.2 * last) << terms;  // |Q| is at most 3 · 0.05
    last = error;
  }
  for (const int64_t terms : {0, 2, 3, 5, 6})
    check_gradients({random_tensor({3, 6}, 2, 0.3)},
                    [&](const Vars& in) { return Vars{ops::cayley(in[0], 4, terms)}; });
}

TEST(Rotate, BlocksAndGradients) {
  const Tensor x = random_tensor({4, 6}, 1), R = random_tensor({2, 3, 3}, 2), one = random_tensor({1, 3, 3}, 3);
  const Tensor y = ops::block_rotate(Var(x), Var(R)).value();
  for (int64_t t = 0; t < 4; ++t) {
    for (int64_t c = 0; c < 6; ++c) {
      double sum = 0;
      for (int64_t k = 0; k < 3; ++k) sum += at(x, t, c / 3 * 3 + k) * R.values()[(c / 3 * 3 + k) * 3 + c % 3];
      EXPECT_NEAR(at(y, t, c), sum, 1e-14);
    }
  }
  for (const Tensor& r : {R, one})
    check_gradients({x, r}, [](const Vars& in) { return Vars{ops::block_rotate(in[0], in[1])}; });
}

// Widths that are multiplied in different ways, the other way around as well, and on top of what is there.
TEST(Rotate, BlocksOfAllWidths) {
  for (const int64_t K : {1, 2, 3, 4, 8, 12, 16, 17, 20}) {
    const Tensor x = random_tensor({3, 2 * K}, 1), R = random_tensor({2, K, K}, 2), one = random_tensor({1, K, K}, 3);
    for (const Tensor& r : {R, one}) {
      for (const bool transposed : {false, true}) {
        const Tensor start = random_tensor({3, 2 * K}, 4), y = start.clone();
        ops::multiply_blocks(x, r, transposed, {y, true});
        const std::vector<double> m = r.values();
        for (int64_t t = 0; t < 3; ++t) {
          for (int64_t j = 0; j < 2 * K; ++j) {
            const int64_t c = j % K, first = r.dim(0) == 1 ? 0 : j / K * K * K;
            double sum = at(start, t, j);
            for (int64_t k = 0; k < K; ++k)
              sum += at(x, t, j / K * K + k) * m[static_cast<size_t>(first + (transposed ? c * K + k : k * K + c))];
            EXPECT_NEAR(at(y, t, j), sum, 1e-13) << K;
          }
        }
      }
      check_gradients({x, r}, [](const Vars& in) { return Vars{ops::block_rotate(in[0], in[1])}; });
    }
  }
}

TEST(TokenRows, ValuesAndGradients) {
  const Tensor y = random_tensor({4, 3}, 1), A = random_tensor({2, 6}, 2), B = random_tensor({3, 2}, 3);
  const std::vector<int32_t> ids{5, 0, 5, 2};
  const Tensor out = ops::low_rank_rows(Var(y.clone()), Var(A), Var(B), ids, 0.5).value();
  for (int64_t t = 0; t < 4; ++t) {
    for (int64_t i = 0; i < 3; ++i) {
      double sum = at(y, t, i);
      for (int64_t r = 0; r < 2; ++r) sum += 0.5 * at(B, i, r) * at(A, r, ids[static_cast<size_t>(t)]);
      EXPECT_NEAR(at(out, t, i), sum, 1e-14);
    }
  }
  check_gradients({y, A, B}, [&](const Vars& in) { return Vars{ops::low_rank_rows(in[0], in[1], in[2], ids, 0.5)}; });
  // y is written into, so it is made anew by an op that does not need its value.
  check_gradients({random_tensor({4, 3}, 4), y, random_tensor({2, 3}, 5)}, [](const Vars& in) {
    return Vars{ops::replace_rows(ops::add(in[1], Var(in[0].value().clone(), in[0].node())), in[2], {-1, 1, 0, 1})};
  });
  check_gradients(
      {random_tensor({4, 6}, 6), random_tensor({4, 6}, 9), random_tensor({4, 3}, 7), random_tensor({2, 3}, 8)},
      [](const Vars& in) {
        return Vars{
            ops::replace_logits(ops::add(in[1], Var(in[0].value().clone(), in[0].node())), in[2], in[3], {4, 1})};
      });
}

}  // namespace
}  // namespace molt

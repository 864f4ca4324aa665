#include "molt/ops/scan.h"

#include <utility>

#include "molt/device/cpu/parallel.h"
#include "tests/cases/gradcheck.h"
#include "tests/reference/scan.h"

namespace molt {
namespace {

using testing::random_tensor;

// Lengths of one, two, an odd number over one chunk of the kernel, none, and several chunks.
const Segments kMixed({0, 1, 3, 20, 20, 60});

/// Inputs as a trained model has them: decays of A between e^-1 and e^2, steps from tiny to a few.
std::vector<Tensor> inputs(int64_t tokens, int64_t width, int64_t states, int64_t segments) {
  return {random_tensor({tokens, width}, 1),           random_tensor({tokens, width}, 2, 2, -1.5),
          random_tensor({width, states}, 3, 0.7, 0.5), random_tensor({tokens, states}, 4),
          random_tensor({tokens, states}, 5),          random_tensor({width}, 6),
          random_tensor({tokens, width}, 7),           random_tensor({segments, width, states}, 8)};
}
const std::vector<std::string> kNames = {"x", "dt", "A_log", "B", "C", "D", "z", "h0"};

ops::ScanInputs named(const std::vector<Var>& v) { return {v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]}; }
std::vector<Var> constants(const std::vector<Tensor>& tensors, Dtype dtype) {
  std::vector<Var> vars;
  for (const Tensor& t : tensors) vars.emplace_back(t.defined() ? t.to(dtype) : t);
  return vars;
}
std::vector<Var> leaves(const std::vector<Tensor>& tensors, Dtype dtype) {
  std::vector<Var> vars;
  for (const Tensor& t : tensors) vars.push_back(t.defined() ? Var::leaf(t.to(dtype)) : Var());
  return vars;
}
reference::Scan truth(const std::vector<Tensor>& t, const Segments& segments) {
  return reference::selective_scan({t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]}, segments);
}

TEST(Scan, MatchesTheReference) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    for (const int64_t width : {1, 19, 30, 64}) {
      for (const int64_t states : {1, 5, 16, 18, 37}) {
        for (const bool all : {true, false}) {
          std::vector<Tensor> t = inputs(60, width, states, 5);
          if (!all) t[5] = t[6] = t[7] = Tensor();
          // What f32 makes of the inputs is not the kernel's error.
          for (Tensor& input : t) input = input.defined() ? input.to(dtype).to(Dtype::kF64) : input;
          const auto expected = truth(t, kMixed);
          const auto got = ops::selective_scan(named(constants(t, dtype)), kMixed, true);
          // f32: errors of up to 40 steps add up, each some 1e-7, and decays as good.
          const double tolerance = dtype == Dtype::kF32 ? 1e-6 : 1e-13;
          EXPECT_LT(testing::relative_error(got.y.value().values(), expected.y), tolerance) << width << " " << states;
          EXPECT_LT(testing::relative_error(got.state.value().values(), expected.state), tolerance)
              << width << " " << states;
        }
      }
    }
  }
}

TEST(Scan, Gradients) {
  testing::check_gradients(
      inputs(60, 19, 5, 5),
      [](const std::vector<Var>& in) {
        const auto result = ops::selective_scan(named(in), kMixed, true);
        return std::vector<Var>{result.y, result.state};
      },
      kNames);
}

TEST(Scan, GradientsWithoutSkipGateAndState) {
  std::vector<Tensor> t = inputs(20, 9, 18, 3);
  t[5] = t[6] = t[7] = Tensor();
  testing::check_gradients(
      t,
      [](const std::vector<Var>& in) {
        return std::vector<Var>{ops::selective_scan(named(in), Segments({0, 1, 3, 20}), false).y};
      },
      kNames);
}

TEST(Scan, GradientsThroughTheStateAlone) {
  std::vector<Tensor> t = inputs(20, 4, 3, 3);
  t[4] = Tensor();  // C, D and z do not reach the state
  t[5] = t[6] = Tensor();
  testing::check_gradients(
      t,
      [](const std::vector<Var>& in) {
        ops::ScanInputs named_in = named(in);
        named_in.C = Var(random_tensor({20, 3}, 5));
        return std::vector<Var>{ops::selective_scan(named_in, Segments({0, 1, 3, 20}), true).state};
      },
      kNames);
}

/// Gradients of all inputs for fixed random gradients of y and the state.
std::vector<std::vector<double>> gradients(const std::vector<Var>& vars, const Segments& segments, Dtype dtype) {
  const auto result = ops::selective_scan(named(vars), segments, true);
  detail::give_grad(*result.y.node(), random_tensor(result.y.value().shape(), 20).to(dtype));
  backward(result.state, random_tensor(result.state.value().shape(), 21).to(dtype));
  std::vector<std::vector<double>> grads;
  for (const Var& v : vars) grads.push_back(v.grad().defined() ? v.grad().values() : std::vector<double>());
  return grads;
}

TEST(Scan, SingleAndDoublePrecisionAgreeOnGradients) {
  for (const int64_t states : {5, 16}) {
    std::vector<Tensor> t = inputs(300, 70, states, 2);
    for (Tensor& input : t) input = input.to(Dtype::kF32);
    const Segments segments({0, 100, 300});
    const auto single = gradients(leaves(t, Dtype::kF32), segments, Dtype::kF32);
    const auto wide = gradients(leaves(t, Dtype::kF64), segments, Dtype::kF64);
    // f32: as the forward pass, twice.
    for (size_t i = 0; i < single.size(); ++i)
      EXPECT_LT(testing::relative_error(single[i], wide[i]), 2e-6) << kNames[i];
  }
}

TEST(Scan, StepsFromTinyToHugeAreExact) {
  // One token from a given state: h = exp(Δ A) h0 + Δ B x, for dt over the whole range of softplus.
  const int64_t width = 400;
  std::vector<Tensor> t = inputs(1, width, 1, 1);
  for (int64_t e = 0; e < width; ++e) t[1].data<double>()[e] = -60 + 0.25 * static_cast<double>(e);
  for (Tensor& input : t) input = input.to(Dtype::kF32).to(Dtype::kF64);
  const auto expected = truth(t, Segments::one(1));
  const auto got = ops::selective_scan(named(constants(t, Dtype::kF32)), Segments::one(1), true).state.value();
  for (int64_t e = 0; e < width; ++e) {
    const double h = expected.state[static_cast<size_t>(e)], h0 = t[7].data<double>()[e];
    // Each term to its own relative precision; exp(Δ A) loses as many bits as Δ A has before the point.
    const double scale = std::abs(h0) + std::abs(h - h0);
    EXPECT_NEAR(got.data<float>()[e], h, 3e-7 * scale) << "dt = " << t[1].data<double>()[e];
  }
  // With h0 = 0 and dt = -40, the state is Δ B x with Δ = e^-40: small, and still exact.
  t[7] = Tensor();
  const auto small = ops::selective_scan(named(constants(t, Dtype::kF32)), Segments::one(1), true).state.value();
  const auto exact = truth(t, Segments::one(1)).state;
  for (int64_t e = 0; e < width; ++e)
    EXPECT_NEAR(small.data<float>()[e] / exact[static_cast<size_t>(e)], 1, 5e-7) << t[1].data<double>()[e];
}

TEST(Scan, TwoSpansEqualOne) {
  const std::vector<Tensor> t = inputs(40, 19, 5, 1);
  const auto whole = ops::selective_scan(named(constants(t, Dtype::kF32)), Segments::one(40), true);
  for (const int64_t cut : {0, 1, 15, 16, 17, 40}) {
    auto span = [&](int64_t begin, int64_t count, const Var& h0) {
      std::vector<Var> v = constants(t, Dtype::kF32);
      for (const size_t i : {0, 1, 3, 4, 6}) v[i] = Var(v[i].value().row_range(begin, count));
      v[7] = h0;
      return ops::selective_scan(named(v), Segments::one(count), true);
    };
    const auto a = span(0, cut, Var(t[7].to(Dtype::kF32)));
    const auto b = span(cut, 40 - cut, a.state);
    auto joined = a.y.value().values();
    const auto rest = b.y.value().values();
    joined.insert(joined.end(), rest.begin(), rest.end());
    // A span of one token sums over the states in another order.
    for (size_t i = 0; i < joined.size(); ++i)
      if (cut == 1 && i < 19)
        EXPECT_NEAR(joined[i], whole.y.value().values()[i], 1e-6 * (1 + std::abs(joined[i])));
      else
        EXPECT_EQ(joined[i], whole.y.value().values()[i]) << "cut at " << cut;
    EXPECT_EQ(b.state.value().values(), whole.state.value().values()) << "cut at " << cut;
  }
}

TEST(Scan, OneTokenPerSegmentAsInDecoding) {
  const Segments segments({0, 1, 2, 3, 4, 5, 6, 7});
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    for (const auto& [width, states] :
         std::vector<std::pair<int64_t, int64_t>>{{300, 5}, {3, 16}, {301, 16}, {302, 24}, {303, 5}}) {
      for (const bool all : {true, false}) {
        std::vector<Tensor> t = inputs(7, width, states, 7);
        if (!all) t[5] = t[6] = t[7] = Tensor();
        for (Tensor& input : t) input = input.defined() ? input.to(dtype).to(Dtype::kF64) : input;
        const auto expected = truth(t, segments);
        const auto got = ops::selective_scan(named(constants(t, dtype)), segments, true);
        const double tolerance = dtype == Dtype::kF32 ? 5e-7 : 1e-14;
        EXPECT_LT(testing::relative_error(got.y.value().values(), expected.y), tolerance) << states;
        EXPECT_LT(testing::relative_error(got.state.value().values(), expected.state), tolerance) << states;
      }
    }
  }
}

TEST(Scan, GradientsThroughTwoSpansEqualThoseOfOne) {
  const std::vector<Tensor> t = inputs(40, 19, 5, 1);
  const auto whole = gradients(leaves(t, Dtype::kF64), Segments::one(40), Dtype::kF64);

  std::vector<Var> v = leaves(t, Dtype::kF64);
  const Tensor dy = random_tensor({40, 19}, 20);
  std::vector<std::vector<Var>> spans(2, v);
  for (size_t half = 0; half < 2; ++half) {
    for (const size_t i : {0, 1, 3, 4, 6}) spans[half][i] = Var::leaf(t[i].row_range(half ? 23 : 0, half ? 17 : 23));
  }
  const auto a = ops::selective_scan(named(spans[0]), Segments::one(23), true);
  spans[1][7] = a.state;
  const auto b = ops::selective_scan(named(spans[1]), Segments::one(17), true);
  detail::give_grad(*a.y.node(), dy.row_range(0, 23).clone());
  detail::give_grad(*b.y.node(), dy.row_range(23, 17).clone());
  backward(b.state, random_tensor(b.state.value().shape(), 21));
  for (size_t i = 0; i < 8; ++i) {
    std::vector<double> joined = spans[0][i].grad().values();
    if (i == 0 || i == 1 || i == 3 || i == 4 || i == 6) {
      const auto rest = spans[1][i].grad().values();
      joined.insert(joined.end(), rest.begin(), rest.end());
    }
    EXPECT_LT(testing::relative_error(joined, whole[i]), 1e-13) << kNames[i];
  }
}

TEST(Scan, ColumnViewsAndSumsOfGradients) {
  // x | z and dt | B | C as columns of wide matrices, twice, so that the second gradient adds onto the first.
  const std::vector<Tensor> t = inputs(60, 19, 5, 5);
  const Tensor xz = random_tensor({60, 50}, 30).to(Dtype::kF32), dbc = random_tensor({60, 40}, 31).to(Dtype::kF32);
  auto run = [&](bool views) {
    const Var wide_xz = Var::leaf(xz.clone()), wide_dbc = Var::leaf(dbc.clone());
    auto part = [&](const Var& whole, int64_t begin, int64_t count) {
      return views ? whole.columns(begin, count) : Var::leaf(whole.value().col_range(begin, count).clone());
    };
    std::vector<Var> v = constants(t, Dtype::kF32);
    v[0] = part(wide_xz, 1, 19), v[6] = part(wide_xz, 25, 19);
    v[1] = part(wide_dbc, 2, 19), v[3] = part(wide_dbc, 22, 5), v[4] = part(wide_dbc, 33, 5);
    for (int repeat = 0; repeat < 2; ++repeat) backward(ops::selective_scan(named(v), kMixed, false).y);
    std::vector<std::vector<double>> grads;
    if (views) {
      for (const auto& [whole, begin, count] :
           {std::tuple(&wide_xz, 1, 19), std::tuple(&wide_xz, 25, 19), std::tuple(&wide_dbc, 2, 19),
            std::tuple(&wide_dbc, 22, 5), std::tuple(&wide_dbc, 33, 5)})
        grads.push_back(whole->grad().col_range(begin, count).clone().values());
    } else {
      for (const size_t i : {0, 6, 1, 3, 4}) grads.push_back(v[i].grad().values());
    }
    return grads;
  };
  EXPECT_EQ(run(true), run(false));
}

TEST(Scan, RowsOfALogAndD) {
  const std::vector<Tensor> t = inputs(60, 100, 16, 5);
  const auto all = gradients(leaves(t, Dtype::kF32), kMixed, Dtype::kF32);
  std::vector<Var> some = leaves(t, Dtype::kF32);
  const auto rows = make_index_set({0, 3, 98});
  some[2] = Var::leaf(t[2].to(Dtype::kF32), rows);
  some[5] = Var::leaf(t[5].to(Dtype::kF32), rows);
  const auto compact = gradients(some, kMixed, Dtype::kF32);
  for (size_t i = 0; i < 8; ++i) {
    if (i != 2 && i != 5) {
      EXPECT_EQ(compact[i], all[i]) << kNames[i];
      continue;
    }
    const size_t width = i == 2 ? 16 : 1;
    std::vector<double> expected;
    for (const int64_t row : *rows) {
      const auto from = all[i].begin() + row * static_cast<int64_t>(width);
      expected.insert(expected.end(), from, from + static_cast<int64_t>(width));
    }
    EXPECT_EQ(compact[i], expected) << kNames[i];
  }
}

TEST(Scan, RepeatsBitForBitAndThreadsOnlyMoveSums) {
  const std::vector<Tensor> t = inputs(200, 130, 16, 2);
  const Segments segments({0, 60, 200});
  const int threads = thread_count();
  set_thread_count(1);
  const auto one = gradients(leaves(t, Dtype::kF32), segments, Dtype::kF32);
  set_thread_count(3);
  const auto three = gradients(leaves(t, Dtype::kF32), segments, Dtype::kF32);
  const auto again = gradients(leaves(t, Dtype::kF32), segments, Dtype::kF32);
  set_thread_count(threads);
  EXPECT_EQ(three, again);
  for (size_t i = 0; i < 8; ++i) {
    if (i == 3 || i == 4) {  // dB and dC sum over channels, which threads share out
      EXPECT_LT(testing::relative_error(three[i], one[i]), 1e-6) << kNames[i];
    } else {
      EXPECT_EQ(three[i], one[i]) << kNames[i];
    }
  }
}

TEST(Scan, NotANumberStaysVisible) {
  std::vector<Tensor> t = inputs(3, 19, 5, 1);
  t[1].data<double>()[2] = std::nan("");
  const auto result = ops::selective_scan(named(constants(t, Dtype::kF32)), Segments::one(3), false);
  EXPECT_TRUE(std::isnan(result.y.value().data<float>()[2]));
  EXPECT_FALSE(std::isnan(result.y.value().data<float>()[3]));
}

TEST(Scan, RefusesWrongShapes) {
  std::vector<Tensor> t = inputs(6, 4, 3, 1);
  EXPECT_THROW(ops::selective_scan(named(constants(t, Dtype::kF32)), Segments::one(5), false), InternalError);
  t[3] = random_tensor({6, 2}, 4);
  EXPECT_THROW(ops::selective_scan(named(constants(t, Dtype::kF32)), Segments::one(6), false), InternalError);
}

}  // namespace
}  // namespace molt

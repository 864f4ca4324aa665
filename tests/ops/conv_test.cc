#include "molt/ops/conv.h"

#include "molt/device/cpu/parallel.h"

#include "tests/cases/gradcheck.h"
#include "tests/reference/conv.h"

namespace molt {
namespace {

using testing::random_tensor;

Tensor to(const Tensor& t, Dtype dtype) { return t.defined() ? t.to(dtype) : t; }

// Lengths below, at and above the window, an empty segment, and one over several chunks of the kernel.
const Segments kMixed({0, 1, 3, 3, 20, 60});

TEST(Conv, MatchesTheReference) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    for (const int64_t taps : {1, 2, 4, 7}) {
      for (const int64_t width : {3, 16, 19, 300}) {
        for (const bool all : {true, false}) {
          const Tensor x = random_tensor({60, width}, 1), w = random_tensor({width, taps}, 2);
          const Tensor bias = all ? random_tensor({width}, 3) : Tensor();
          const Tensor tail = all ? random_tensor({5, taps - 1, width}, 4) : Tensor();
          const auto expected = reference::conv1d(x, w, bias, tail, kMixed, all);
          const auto got = ops::conv1d_silu(Var(to(x, dtype)), Var(to(w, dtype)), Var(to(bias, dtype)),
                                            Var(to(tail, dtype)), kMixed, true, all);
          // f32: a handful of roundings, 6e-8 each, and an exponential as good.
          const double tolerance = dtype == Dtype::kF32 ? 5e-7 : 1e-14;
          EXPECT_LT(testing::relative_error(got.y.value().values(), expected.y), tolerance) << taps << " " << width;
          // Copies are exact, but for the rounding of the values themselves to f32.
          EXPECT_LT(testing::relative_error(got.tail.value().values(), expected.tail), tolerance);
        }
      }
    }
  }
}

TEST(Conv, Gradients) {
  for (const int64_t taps : {1, 3, 4}) {
    for (const bool silu : {true, false}) {
      testing::check_gradients({random_tensor({60, 19}, 1), random_tensor({19, taps}, 2), random_tensor({19}, 3),
                                random_tensor({5, taps - 1, 19}, 4)},
                               [&](const std::vector<Var>& in) {
                                 const auto result = ops::conv1d_silu(in[0], in[1], in[2], in[3], kMixed, true, silu);
                                 std::vector<Var> outputs = {result.y};
                                 if (taps > 1) outputs.push_back(result.tail);
                                 return outputs;
                               },
                               {"x", "weight", "bias", "tail"});
    }
  }
}

TEST(Conv, GradientsThroughTheTailAlone) {
  testing::check_gradients({random_tensor({60, 5}, 1), random_tensor({5, 3, 5}, 4)},
                           [&](const std::vector<Var>& in) {
                             const Var weight(random_tensor({5, 4}, 2));
                             return std::vector<Var>{ops::conv1d_silu(in[0], weight, Var(), in[1], kMixed, true).tail};
                           },
                           {"x", "tail"});
}

TEST(Conv, ColumnViewsAndSumsOfGradients) {
  const Tensor whole = random_tensor({60, 40}, 1), w = random_tensor({19, 4}, 2);
  auto gradient = [&](bool view) {
    const Var wide = Var::leaf(whole.clone());
    const Var x = view ? wide.columns(3, 19) : Var::leaf(whole.col_range(3, 19).clone());
    const Var weight(w);
    // Twice, so that the second adds onto the first.
    backward(ops::conv1d_silu(x, weight, Var(), Var(), kMixed, false).y);
    backward(ops::conv1d_silu(x, weight, Var(), Var(), kMixed, false).y);
    return (view ? wide.grad().col_range(3, 19).clone() : x.grad()).values();
  };
  EXPECT_EQ(gradient(true), gradient(false));
}

TEST(Conv, TwoSpansEqualOne) {
  const Tensor x = random_tensor({30, 19}, 1), w = random_tensor({19, 4}, 2), bias = random_tensor({19}, 3);
  const auto whole = ops::conv1d_silu(Var(x), Var(w), Var(bias), Var(), Segments::one(30), true);
  for (const int64_t cut : {0, 1, 2, 3, 17, 30}) {
    const auto a = ops::conv1d_silu(Var(x.row_range(0, cut)), Var(w), Var(bias), Var(), Segments::one(cut), true);
    const auto b =
        ops::conv1d_silu(Var(x.row_range(cut, 30 - cut)), Var(w), Var(bias), a.tail, Segments::one(30 - cut), true);
    auto joined = a.y.value().values();
    const auto rest = b.y.value().values();
    joined.insert(joined.end(), rest.begin(), rest.end());
    EXPECT_EQ(joined, whole.y.value().values()) << "cut at " << cut;
    EXPECT_EQ(b.tail.value().values(), whole.tail.value().values()) << "cut at " << cut;
  }
}

TEST(Conv, InputsKeptInBf16) {
  // The same numbers kept in bf16 and in f32, whole and cut in two: what comes out in f32 is the same, and gradients in
  // bf16 are those in f32, rounded.
  const auto near = [](const char* name, double tolerance, const Tensor& found, const Tensor& expected) {
    EXPECT_LT(testing::relative_error(found.to(Dtype::kF64), expected.to(Dtype::kF64)), tolerance) << name;
  };
  constexpr int64_t kRows = 30, kWidth = 19, kCut = 17;
  const Tensor narrow = random_tensor({kRows, kWidth}, 1).to(Dtype::kBf16), wide = narrow.to(Dtype::kF32);
  const Tensor w = random_tensor({kWidth, 4}, 2).to(Dtype::kF32),
               dy = random_tensor({kRows, kWidth}, 3).to(Dtype::kF32);
  const Tensor dtail_out = random_tensor({1, 3, kWidth}, 4).to(Dtype::kF32);
  struct Result {
    Tensor y, tail, dx, dtail;
  };
  const auto run = [&](const Tensor& x, const Tensor& tail, const Tensor& dy_in, const Tensor& dtail_in) {
    const auto segments = std::make_shared<const Segments>(Segments::one(x.rows()));
    const ops::ConvInputs in{x, w, {}, tail, segments};
    const Tensor zeros = Tensor::zeros({1, 3, kWidth}, Dtype::kF32);
    Result r{zeros.like({x.rows(), kWidth}), zeros.like({1, 3, kWidth}), x.like(x.shape()), zeros.like({1, 3, kWidth})};
    const auto& kernels = ops::conv_kernels.at(Device::kCpu);
    kernels.forward(in, r.y, r.tail);
    kernels.backward(in, {dy_in, dtail_in, {r.dx, false}, {r.dtail, false}, {}, {}});
    return r;
  };
  const Tensor start = Tensor::zeros({1, 3, kWidth}, Dtype::kF32);
  const Result a = run(narrow, start, dy, dtail_out), b = run(wide, start, dy, dtail_out);
  EXPECT_EQ(a.y.values(), b.y.values());
  EXPECT_EQ(a.tail.values(), b.tail.values());
  near("dx", 0x1p-8, a.dx, b.dx);
  EXPECT_EQ(a.dtail.values(), b.dtail.values());

  const Result front = run(narrow.row_range(0, kCut), start, dy.row_range(0, kCut), start);
  const Result back =
      run(narrow.row_range(kCut, kRows - kCut), front.tail, dy.row_range(kCut, kRows - kCut), dtail_out);
  const Result again = run(narrow.row_range(0, kCut), start, dy.row_range(0, kCut), back.dtail);
  EXPECT_EQ(back.y.values(), b.y.row_range(kCut, kRows - kCut).values());
  EXPECT_EQ(back.tail.values(), b.tail.values());
  near("dx before the cut", 0x1p-8, again.dx, b.dx.row_range(0, kCut));
  near("dx behind the cut", 0x1p-8, back.dx, b.dx.row_range(kCut, kRows - kCut));
  EXPECT_EQ(again.dtail.values(), b.dtail.values());
}

TEST(Conv, SingleAndDoublePrecisionAgreeOnGradients) {
  auto gradients = [](Dtype dtype) {
    std::vector<Var> leaves = {Var::leaf(random_tensor({60, 300}, 1).to(dtype)),
                               Var::leaf(random_tensor({300, 4}, 2).to(dtype)),
                               Var::leaf(random_tensor({300}, 3).to(dtype))};
    const auto result = ops::conv1d_silu(leaves[0], leaves[1], leaves[2], Var(), kMixed, false);
    backward(result.y, random_tensor({60, 300}, 5).to(dtype));
    std::vector<Tensor> grads;
    for (const Var& leaf : leaves) grads.push_back(leaf.grad());
    return grads;
  };
  const auto single = gradients(Dtype::kF32), wide = gradients(Dtype::kF64);
  // f32: sums of up to 60 terms.
  for (size_t i = 0; i < single.size(); ++i) EXPECT_LT(testing::relative_error(single[i], wide[i]), 1e-6) << i;
}

TEST(Conv, SameBitsWithAnyNumberOfThreads) {
  auto gradients = [] {
    const Var x = Var::leaf(random_tensor({600, 130}, 1).to(Dtype::kF32));
    const Var w = Var::leaf(random_tensor({130, 4}, 2).to(Dtype::kF32));
    backward(ops::conv1d_silu(x, w, Var(), Var(), Segments({0, 100, 600}), false).y);
    auto all = x.grad().values();
    const auto more = w.grad().values();
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const int threads = thread_count();
  set_thread_count(1);
  const auto one = gradients();
  set_thread_count(3);
  const auto three = gradients();
  set_thread_count(threads);
  EXPECT_EQ(one, three);
}

TEST(Conv, RowsOfTheWeight) {
  const Tensor x = random_tensor({60, 19}, 1), w = random_tensor({19, 4}, 2);
  const Var all = Var::leaf(w), some = Var::leaf(w, make_index_set({2, 7, 18}));
  backward(ops::conv1d_silu(Var(x), all, Var(), Var(), kMixed, false).y);
  backward(ops::conv1d_silu(Var(x), some, Var(), Var(), kMixed, false).y);
  for (int64_t i = 0; i < 3; ++i)
    EXPECT_EQ(some.grad().row_range(i, 1).values(), all.grad().row_range((*some.node()->rows)[i], 1).values());
}

TEST(Conv, RefusesWrongShapes) {
  const Var x(random_tensor({6, 4}, 1)), w(random_tensor({5, 4}, 2)), good(random_tensor({4, 4}, 2));
  EXPECT_THROW(ops::conv1d_silu(x, w, Var(), Var(), Segments::one(6), false), InternalError);
  EXPECT_THROW(ops::conv1d_silu(x, good, Var(), Var(), Segments::one(5), false), InternalError);
  EXPECT_THROW(ops::conv1d_silu(x, good, Var(), Var(random_tensor({2, 3, 4}, 3)), Segments::one(6), false),
               InternalError);
}

}  // namespace
}  // namespace molt

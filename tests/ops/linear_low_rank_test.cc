// The fused product with a low-rank addition against the two ops it stands for.
#include "molt/ops/linear_low_rank.h"

#include <gtest/gtest.h>

#include <cmath>

#include "molt/base/rng.h"
#include "molt/ops/linear.h"
#include "molt/ops/low_rank.h"
#include "molt/tensor/matrix_view.h"

namespace molt {
namespace {

Tensor random(Shape shape, uint64_t key, double scale = 1) {
  Tensor t = Tensor::empty(std::move(shape), Dtype::kF32);
  const Rng rng(key);
  for (int64_t i = 0; i < t.numel(); ++i)
    t.data<float>()[i] = static_cast<float>(scale * rng.normal(static_cast<uint64_t>(i)));
  return t;
}

/// Largest difference over the root mean square of what is expected.
double distance(const Tensor& got, const Tensor& expected) {
  const std::vector<double> a = got.values(), b = expected.values();
  EXPECT_EQ(a.size(), b.size());
  double worst = 0, square = 0;
  for (size_t i = 0; i < b.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i])), square += b[i] * b[i];
  return worst / std::sqrt(square / static_cast<double>(b.size()));
}

struct Case {
  int64_t tokens, inputs, outputs, rank, begin, adapted;
};

TEST(LinearLowRank, agrees_with_the_two_ops) {
  // Row blocks with and without a rest, sums in one part and in several, ranks across tiles, a slice of the outputs.
  const Case cases[] = {{64, 96, 128, 8, 0, 128},   {7, 40, 33, 3, 0, 33},       {49, 768, 80, 8, 48, 16},
                        {130, 1536, 96, 20, 0, 96}, {33, 100, 2000, 1, 0, 2000}, {80, 64, 64, 64, 16, 40}};
  for (const Case& c : cases) {
    SCOPED_TRACE(str("T=", c.tokens, " I=", c.inputs, " O=", c.outputs, " R=", c.rank));
    const Tensor weight = random({c.outputs, c.inputs}, 1, 1 / std::sqrt(static_cast<double>(c.inputs)));
    const auto packed = std::make_shared<PackedMatrix>(matrix_view(weight), PackOptions{.compute = Dtype::kBf16});
    const Tensor x = random({c.tokens, c.inputs}, 2), A = random({c.rank, c.inputs}, 3, 0.1),
                 B = random({c.adapted, c.rank}, 4), bias = random({c.outputs}, 5),
                 dy = random({c.tokens, c.outputs}, 6);
    if (!ops::can_fuse_low_rank(*packed, A, B)) GTEST_SKIP() << "no tiles of bf16 here";
    std::vector<Tensor> results[2];
    for (const bool fused : {false, true}) {
      const Var vx = Var::leaf(x), vA = Var::leaf(A), vB = Var::leaf(B), vb = Var::leaf(bias);
      const Var y = fused ? ops::linear_low_rank(vx, packed, vb, vA, vB, 0.5, c.begin)
                          : ops::low_rank(ops::linear(vx, packed, {}, vb), vx, vA, vB, 0.5, c.begin);
      backward(y, dy.clone());
      results[fused] = {y.value(), vx.grad(), vA.grad(), vB.grad(), vb.grad()};
    }
    const char* names[] = {"y", "dx", "dA", "dB", "db"};
    // The fused op rounds x, u, A and B to bf16 (2^-9 of each), the separate low-rank op does not; the largest values
    // are some ten times the root mean square, as the slice that is adapted is larger than the rest.
    for (size_t i = 0; i < 5; ++i) EXPECT_LT(distance(results[1][i], results[0][i]), 0.05) << names[i];
  }
}

TEST(LinearLowRank, adds_to_gradients_that_are_there_and_leaves_out_what_nobody_wants) {
  const Tensor weight = random({96, 64}, 1, 0.1);
  const auto packed = std::make_shared<PackedMatrix>(matrix_view(weight), PackOptions{.compute = Dtype::kBf16});
  const Tensor x = random({40, 64}, 2), A = random({8, 64}, 3), B = random({96, 8}, 4), dy = random({40, 96}, 5);
  if (!ops::can_fuse_low_rank(*packed, A, B)) GTEST_SKIP() << "no tiles of bf16 here";
  const Var vx = Var::leaf(x), vA = Var::leaf(A), vB = Var::leaf(B);
  backward(ops::linear_low_rank(vx, packed, {}, vA, vB, 1), dy.clone());
  const std::vector<Tensor> once = {vx.grad().clone(), vA.grad().clone(), vB.grad().clone()};
  backward(ops::linear_low_rank(vx, packed, {}, vA, vB, 1), dy.clone());
  const Tensor twice[] = {vx.grad(), vA.grad(), vB.grad()};
  for (size_t i = 0; i < 3; ++i) {
    Tensor expected = once[i].clone();
    expected.scale(2);
    EXPECT_LT(distance(twice[i], expected), 1e-5) << i;
  }
  const Var lone = Var::leaf(B);
  backward(ops::linear_low_rank(Var(x), packed, {}, Var(A), lone, 1), dy.clone());
  EXPECT_EQ(distance(lone.grad(), once[2]), 0);
}

}  // namespace
}  // namespace molt

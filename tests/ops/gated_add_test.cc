#include "molt/ops/gated_add.h"

#include <cmath>

#include "tests/cases/gradcheck.h"
#include "tests/cases/stored_as.h"

namespace molt {
namespace {

using testing::random_tensor;

// Widths below, at and above the kernels' tile of 256 channels, and no multiple of any vector.
constexpr int64_t kWidths[] = {1, 7, 256, 531};

TEST(GatedAdd, AddsWhatTheFormulaSays) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    for (const int64_t width : kWidths) {
      const Tensor z = random_tensor({9, width + 2}, 1, 2, 0, dtype).col_range(2, width);
      const Tensor u = random_tensor({width}, 2, 1, 0, dtype), y = random_tensor({9, width}, 3, 1, 0, dtype);
      std::vector<double> expected = y.values();
      const auto zs = z.values(), us = u.values();
      for (size_t i = 0; i < expected.size(); ++i)
        expected[i] += zs[i] / (1 + std::exp(-zs[i])) * us[i % static_cast<size_t>(width)];
      const Tensor got = ops::gated_add(Var(y), Var(z), Var(u)).value();
      EXPECT_EQ(got.raw(), y.raw());
      // Three roundings and one of the sigmoid.
      EXPECT_LT(testing::relative_error(got.values(), expected), dtype == Dtype::kF32 ? 3e-7 : 1e-15);
    }
  }
}

TEST(GatedAdd, Gradients) {
  for (const int64_t width : {5, 530}) {
    testing::check_gradients(
        {random_tensor({3, width}, 4), random_tensor({3, width}, 5, 2), random_tensor({width}, 6)},
        [](const std::vector<Var>& in) { return std::vector<Var>{ops::gated_add(in[0], in[1], in[2])}; },
        {"y", "z", "u"});
  }
}

TEST(GatedAdd, GradientsAddToThoseThatAreThere) {
  const Var z = Var::leaf(random_tensor({3, 5}, 7)), u = Var::leaf(random_tensor({5}, 8));
  const Tensor dy = random_tensor({3, 5}, 9);
  std::vector<Tensor> once;
  for (const int times : {1, 2}) {
    for (int i = 0; i < times; ++i) backward(ops::gated_add(Var(random_tensor({3, 5}, 10)), z, u), dy.clone());
    if (times == 1) {
      once = {z.grad().clone(), u.grad().clone()};
      z.clear_grad(), u.clear_grad();
    }
  }
  for (Tensor& t : once) t.scale(2);
  EXPECT_LT(testing::relative_error(z.grad(), once[0]), 1e-15);
  EXPECT_LT(testing::relative_error(u.grad(), once[1]), 1e-15);
}

// y and z kept in bf16: the same numbers, but for the rounding of what is written.
TEST(GatedAdd, TakesTheGateInBf16) {
  const Tensor z = random_tensor({9, 531}, 1, 2).to(Dtype::kBf16), y = random_tensor({9, 531}, 2).to(Dtype::kBf16);
  const Tensor u = random_tensor({531}, 3).to(Dtype::kF32), dy = random_tensor({9, 531}, 4).to(Dtype::kBf16);
  std::vector<std::vector<Tensor>> got;
  for (const Dtype dtype : {Dtype::kF32, Dtype::kBf16}) {
    const Var gate = Var::leaf(z.to(Dtype::kF32)), offset = Var::leaf(u.clone());
    const Var out = ops::gated_add(Var(y.to(dtype)), testing::stored_as(gate, dtype), offset);
    const Tensor value = out.value().clone();
    backward(out, dy.to(dtype));
    got.push_back({value, gate.grad().clone(), offset.grad().clone()});
  }
  for (size_t i = 0; i < 2; ++i)  // y, dz
    EXPECT_EQ(got[1][i].values(), got[0][i].to(Dtype::kBf16).values()) << i;
  EXPECT_EQ(got[1][2].values(), got[0][2].values());
}

}  // namespace
}  // namespace molt

#include "molt/ops/gated_add.h"

#include <cmath>

#include "tests/cases/gradcheck.h"

namespace molt {
namespace {

using testing::random_tensor;

// Widths below, at and above the kernels' tile of 512 channels, and no multiple of any vector.
constexpr int64_t kWidths[] = {1, 7, 512, 531};

TEST(GatedAdd, AddsWhatTheFormulaSays) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    for (const int64_t width : kWidths) {
      for (const bool shared : {false, true}) {
        const Tensor z = random_tensor({9, width + 2}, 1, 2, 0, dtype).col_range(2, width);
        const Tensor u = shared ? random_tensor({width}, 2, 1, 0, dtype) : random_tensor({9, width}, 2, 1, 0, dtype);
        const Tensor y = random_tensor({9, width}, 3, 1, 0, dtype);
        std::vector<double> expected = y.values();
        const auto zs = z.values(), us = u.values();
        for (size_t i = 0; i < expected.size(); ++i)
          expected[i] += zs[i] / (1 + std::exp(-zs[i])) * us[shared ? i % static_cast<size_t>(width) : i];
        const Tensor got = ops::gated_add(Var(y), Var(z), Var(u)).value();
        EXPECT_EQ(got.raw(), y.raw());
        // Three roundings and one of the sigmoid.
        EXPECT_LT(testing::relative_error(got.values(), expected), dtype == Dtype::kF32 ? 3e-7 : 1e-15);
      }
    }
  }
}

TEST(GatedAdd, Gradients) {
  for (const int64_t width : {5, 530}) {
    for (const Shape& u : {Shape{3, width}, Shape{width}}) {
      testing::check_gradients(
          {random_tensor({3, width}, 4), random_tensor({3, width}, 5, 2), random_tensor(u, 6)},
          [](const std::vector<Var>& in) { return std::vector<Var>{ops::gated_add(in[0], in[1], in[2])}; },
          {"y", "z", "u"});
    }
  }
}

TEST(GatedAdd, GradientsAddToThoseThatAreThere) {
  for (const Shape& shape : {Shape{3, 5}, Shape{5}}) {
    const Var z = Var::leaf(random_tensor({3, 5}, 7)), u = Var::leaf(random_tensor(shape, 8));
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
}

}  // namespace
}  // namespace molt

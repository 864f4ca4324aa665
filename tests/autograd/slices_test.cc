#include <gtest/gtest.h>

#include "molt/autograd/tape.h"

namespace molt {
namespace {

// y = 2a + 3b, with both gradients' memory at hand before either is written, as fused kernels have it.
struct TwoInputs {
  static constexpr const char* kName = "two_inputs";
  Tensor forward(const Needs&, const Tensor& a, const Tensor&) { return Tensor::zeros(a.shape(), a.dtype()); }
  void backward(const Tensor& dy, Grads& d) const {
    const GradOut outs[] = {d.out(0), d.out(1)};
    for (int i = 0; i < 2; ++i) {
      Tensor grad = dy.clone(), target = outs[i].tensor;
      grad.scale(i + 2);
      if (outs[i].accumulate) {
        target.add(grad);
      } else {
        target.copy_from(grad);
      }
    }
  }
};

TEST(Slices, OneOpMayHoldGradientsOfTwoSlices) {
  const Var wide = Var::leaf(Tensor::zeros({2, 4}, Dtype::kF64));
  for (double times = 1; times <= 2; ++times) {
    backward(record(TwoInputs{}, wide.columns(0, 2), wide.columns(2, 2)));
    EXPECT_EQ(wide.grad().values(), (std::vector<double>{2 * times, 2 * times, 3 * times, 3 * times, 2 * times,
                                                         2 * times, 3 * times, 3 * times}));
  }
}

TEST(Slices, GradientsThatWereHandedOverAreNotChanged) {
  const Var wide = Var::leaf(Tensor::zeros({1, 4}, Dtype::kF64));
  const Tensor given = Tensor::from<double>({1, 1, 1, 1}, {1, 4});
  wide.set_grad(given);
  backward(record(TwoInputs{}, wide.columns(0, 2), wide.columns(2, 2)));
  EXPECT_EQ(wide.grad().values(), (std::vector<double>{3, 3, 4, 4}));
  EXPECT_EQ(given.values(), (std::vector<double>{1, 1, 1, 1}));
}

}  // namespace
}  // namespace molt

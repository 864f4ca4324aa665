#include "molt/ops/offset_readout.h"

#include <cmath>

#include "molt/device/cpu/parallel.h"
#include "tests/cases/gradcheck.h"
#include "tests/cases/stored_as.h"

namespace molt {
namespace {

using testing::random_tensor;
using testing::relative_error;

struct Case {
  int64_t tokens, channels, states;
};
// Below, at and above a chunk of 16 tokens, a group of four states and a tile of 16 vectors; no multiple of a vector.
const Case kCases[] = {{1, 1, 1}, {16, 16, 4}, {9, 7, 5}, {35, 300, 16}, {5, 530, 12}, {18, 261, 19}};

struct Inputs {
  explicit Inputs(const Case& c, Dtype dtype = Dtype::kF64)
      : y(random_tensor({c.tokens, c.channels}, 1, 1, 0, dtype)),
        z(random_tensor({c.tokens, c.channels + 3}, 2, 2, 0, dtype).col_range(3, c.channels)),
        C(random_tensor({c.tokens, c.states + 2}, 3, 1, 0, dtype).col_range(2, c.states)),
        offset(random_tensor({c.channels, c.states}, 4, 0.3, 0, dtype)) {}
  Tensor y, z, C, offset;
};

std::vector<double> plain(const Inputs& in) {
  const auto z = in.z.values(), C = in.C.values(), offset = in.offset.values();
  const auto E = static_cast<size_t>(in.y.cols()), N = static_cast<size_t>(in.C.cols());
  std::vector<double> y = in.y.values();
  for (size_t i = 0; i < y.size(); ++i) {
    double u = 0;
    for (size_t n = 0; n < N; ++n) u += C[i / E * N + n] * offset[i % E * N + n];
    y[i] += z[i] / (1 + std::exp(-z[i])) * u;
  }
  return y;
}

TEST(OffsetReadout, AddsWhatTheFormulaSays) {
  for (const Case& c : kCases) {
    for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
      const Inputs in(c, dtype);
      const std::vector<double> expected = plain(in);
      const Tensor got = ops::offset_readout(Var(in.y), Var(in.z), Var(in.C), Var(in.offset)).value();
      EXPECT_EQ(got.raw(), in.y.raw());
      // Roundings of sums of up to 19 terms, and one of the sigmoid.
      EXPECT_LT(relative_error(got.values(), expected), dtype == Dtype::kF32 ? 5e-7 : 1e-15);
    }
  }
}

TEST(OffsetReadout, Gradients) {
  for (const Case& c : {Case{3, 7, 3}, Case{18, 5, 8}, Case{2, 270, 5}}) {
    const Inputs in(c);
    testing::check_gradients(
        {in.y, in.z.clone(), in.C.clone(), in.offset},
        [](const std::vector<Var>& v) { return std::vector<Var>{ops::offset_readout(v[0], v[1], v[2], v[3])}; },
        {"y", "z", "C", "offset"});
  }
}

std::vector<Tensor> gradients(const Inputs& in, const Tensor& dy, int times) {
  const Var z = Var::leaf(in.z.clone()), C = Var::leaf(in.C.clone()), offset = Var::leaf(in.offset.clone());
  for (int i = 0; i < times; ++i) backward(ops::offset_readout(Var(in.y.clone()), z, C, offset), dy.clone());
  return {z.grad().clone(), C.grad().clone(), offset.grad().clone()};
}

TEST(OffsetReadout, GradientsAddToThoseThatAreThere) {
  const Inputs in(kCases[3]);
  const Tensor dy = random_tensor(in.y.shape(), 5);
  const std::vector<Tensor> once = gradients(in, dy, 1), twice = gradients(in, dy, 2);
  for (size_t i = 0; i < once.size(); ++i) {
    Tensor doubled = once[i].clone();
    doubled.scale(2);
    EXPECT_LT(relative_error(twice[i], doubled), 1e-15) << i;
  }
}

TEST(OffsetReadout, ThreadsChangeNoBit) {
  const Inputs in(kCases[3], Dtype::kF32);
  const Tensor dy = random_tensor(in.y.shape(), 5, 1, 0, Dtype::kF32);
  const int before = thread_count();
  std::vector<std::vector<Tensor>> got;
  for (const int threads : {1, 3}) {
    set_thread_count(threads);
    got.push_back(gradients(in, dy, 1));
  }
  set_thread_count(before);
  for (size_t i = 0; i < got[0].size(); ++i) EXPECT_EQ(got[0][i].values(), got[1][i].values()) << i;
}

// y and z kept in bf16: the same numbers, but for the rounding of what is written.
TEST(OffsetReadout, TakesTheGateInBf16) {
  const Inputs in(kCases[3], Dtype::kF32);
  const Tensor z = in.z.to(Dtype::kBf16), y = in.y.to(Dtype::kBf16);
  const Tensor dy = random_tensor(in.y.shape(), 5, 1, 0, Dtype::kF32).to(Dtype::kBf16);
  std::vector<std::vector<Tensor>> got;
  for (const Dtype dtype : {Dtype::kF32, Dtype::kBf16}) {
    const Var gate = Var::leaf(z.to(Dtype::kF32)), C = Var::leaf(in.C.clone()), offset = Var::leaf(in.offset.clone());
    const Var out = ops::offset_readout(Var(y.to(dtype)), testing::stored_as(gate, dtype), C, offset);
    EXPECT_EQ(out.value().dtype(), dtype);
    const Tensor value = out.value().clone();
    backward(out, dy.to(dtype));
    got.push_back({value, gate.grad().clone(), C.grad().clone(), offset.grad().clone()});
  }
  for (size_t i = 0; i < 2; ++i)  // y, dz: half a unit in the last place of bf16
    EXPECT_EQ(got[1][i].values(), got[0][i].to(Dtype::kBf16).values()) << i;
  for (size_t i = 2; i < 4; ++i)  // dC, dh': f32, of the same numbers
    EXPECT_EQ(got[1][i].values(), got[0][i].values()) << i;
}

}  // namespace
}  // namespace molt

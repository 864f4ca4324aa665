#include "molt/ops/instant_terms.h"

#include "molt/ops/scan.h"
#include "tests/cases/gradcheck.h"
#include "tests/reference/scan.h"

namespace molt {
namespace {

using testing::random_tensor;
using testing::relative_error;

constexpr int64_t kTokens = 9, kChannels = 4, kStates = 3;
/// Two states of channel 0, one of channel 2, all of channel 3.
const std::vector<int64_t> kPruned{0, 2, 7, 9, 10, 11};

struct Inputs {
  Tensor x = random_tensor({kTokens, kChannels}, 1), dt = random_tensor({kTokens, kChannels}, 2);
  Tensor A_log = random_tensor({kChannels, kStates}, 3, 0.3), B = random_tensor({kTokens, kStates}, 4);
  Tensor C = random_tensor({kTokens, kStates}, 5), D = random_tensor({kChannels}, 6);
  Tensor z = random_tensor({kTokens, kChannels}, 7);
};

// A scan whose pruned states forget at once, without what they give at once, is
// a scan that never had them.
TEST(InstantTerms, WithoutThemPrunedStatesAddNothing) {
  for (const Dtype dtype : {Dtype::kF64, Dtype::kF32}) {
    const Inputs in;
    const auto var = [dtype](const Tensor& t) { return Var(t.to(dtype)); };
    Tensor A_log = in.A_log.clone();
    for (const int64_t place : kPruned) A_log.data<double>()[place] = 80;
    const Segments segments({0, 4, kTokens});
    const ops::ScanResult scan = ops::selective_scan({.x = var(in.x),
                                                      .dt = var(in.dt),
                                                      .A_log = var(A_log),
                                                      .B = var(in.B),
                                                      .C = var(in.C),
                                                      .D = var(in.D),
                                                      .z = var(in.z)},
                                                     segments, false);
    const Tensor got = ops::take_instant_terms(scan.y, var(in.x), var(in.dt), var(in.B), var(in.C), var(in.z),
                                               ops::make_entry_set(kPruned, A_log.shape()))
                           .value();
    // The reference, one channel at a time, each with a B of its own.
    std::vector<double> expected(static_cast<size_t>(kTokens * kChannels));
    for (int64_t e = 0; e < kChannels; ++e) {
      Tensor B = in.B.clone();
      for (const int64_t place : kPruned) {
        if (place / kStates != e) continue;
        Tensor column = B.col_range(place % kStates, 1);
        column.fill(0);
      }
      const auto channel = [e](const Tensor& t) { return t.col_range(e, 1).clone(); };
      const reference::Scan one = reference::selective_scan({.x = channel(in.x),
                                                             .dt = channel(in.dt),
                                                             .A_log = in.A_log.row_range(e, 1).clone(),
                                                             .B = B,
                                                             .C = in.C,
                                                             .D = in.D.row_range(e, 1).clone(),
                                                             .z = channel(in.z),
                                                             .h0 = {}},
                                                            segments);
      for (int64_t t = 0; t < kTokens; ++t)
        expected[static_cast<size_t>(t * kChannels + e)] = one.y[static_cast<size_t>(t)];
    }
    // Taking away what was added costs a rounding of the larger sum.
    EXPECT_LT(relative_error(got.values(), expected), dtype == Dtype::kF64 ? 1e-14 : 1e-6);
  }
}

TEST(InstantTerms, Gradients) {
  const Inputs in;
  testing::check_gradients(
      {random_tensor({kTokens, kChannels}, 8), in.x, in.dt, in.B, in.C, in.z},
      [](const std::vector<Var>& v) {
        return std::vector<Var>{ops::take_instant_terms(v[0], v[1], v[2], v[3], v[4], v[5],
                                                        ops::make_entry_set(kPruned, {kChannels, kStates}))};
      },
      {"y", "x", "dt", "B", "C", "z"});
}

}  // namespace
}  // namespace molt

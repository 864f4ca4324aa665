// Proposition 1 (Galim et al., 2025): a prefix before a state-space layer does what some initial state does; and, if a
// channel's transitions differ and all its input weights are non-zero, every initial state is some prefix's exactly
// where the prefix has as many rows as the channel has states (Vandermonde).
#include <algorithm>

#include "molt/ops/scan.h"
#include "tests/cases/methods.h"
#include "tests/reference/prefix.h"

namespace molt {
namespace {

using testing::golden_dir;
using testing::GoldenStream;
using testing::random_tensor;
using testing::relative_error;
using testing::TunedModel;

class PrefixIsInitialState : public ::testing::TestWithParam<std::tuple<const char*, int>> {};

TEST_P(PrefixIsInitialState, OfAWholeModel) {
  const auto [model, rows] = GetParam();
  const GoldenStream stream{io::SafetensorsFile(golden_dir(model) + "/golden.safetensors")};
  const TunedModel prefixed(
      model, Dtype::kF64,
      {testing::with<peft::PrefixTuning>({.num_virtual_tokens = rows, .target_modules = {"prefix"}})});
  testing::disturb(prefixed, 3, 0.3);

  const TunedModel started(model, Dtype::kF64,
                           {testing::with<peft::InitialState>({.target_modules = {"h0", "conv0"}})});
  io::NamedTensors states;
  for (const nn::Trainable& t : prefixed.trainables()) {
    const std::string mixer = t.name.substr(0, t.name.find("prefix"));
    const reference::Remembered after = reference::remember(prefixed.checkpoint(), mixer, t.var.value());
    states.emplace_back("base_model.model." + mixer + "h0.initial_state", after.ssm);
    states.emplace_back("base_model.model." + mixer + "conv0.initial_state", after.conv);
  }
  started.method().load_state(states);
  const Tensor with_prefix = prefixed.logits(stream), with_state = started.logits(stream);
  EXPECT_LT(relative_error(with_state, with_prefix), 1e-10);
  EXPECT_GT(relative_error(with_prefix, prefixed.base_logits(stream)), 1e-3);
}

// One row (the convolution still sees zeros before it), as many as it reaches back, and more.
INSTANTIATE_TEST_SUITE_P(Cases, PrefixIsInitialState,
                         ::testing::Combine(::testing::Values("tied_small", "untied_odd"),
                                            ::testing::Values(1, 2, 3, 8)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + "_" + std::to_string(std::get<1>(info.param));
                         });

/// Solves least squares A x = b (rows x cols, rows >= cols, full column rank) by Gram-Schmidt; returns x and ‖A x − b‖.
std::pair<std::vector<double>, double> least_squares(std::vector<std::vector<double>> columns, std::vector<double> b) {
  const size_t n = columns.size(), m = b.size();
  const auto dot = [m](const std::vector<double>& x, const std::vector<double>& y) {
    double sum = 0;
    for (size_t i = 0; i < m; ++i) sum += x[i] * y[i];
    return sum;
  };
  std::vector<std::vector<double>> r(n, std::vector<double>(n, 0));
  std::vector<double> projected(n), x(n);
  for (size_t j = 0; j < n; ++j) {
    for (int twice = 0; twice < 2; ++twice) {
      for (size_t k = 0; k < j; ++k) {
        const double along = dot(columns[k], columns[j]);
        r[k][j] += along;
        for (size_t i = 0; i < m; ++i) columns[j][i] -= along * columns[k][i];
      }
    }
    r[j][j] = std::sqrt(dot(columns[j], columns[j]));
    for (double& v : columns[j]) v /= r[j][j];
    projected[j] = dot(columns[j], b);
    for (size_t i = 0; i < m; ++i) b[i] -= projected[j] * columns[j][i];
  }
  for (size_t j = n; j-- > 0;) {
    double sum = projected[j];
    for (size_t k = j + 1; k < n; ++k) sum -= r[j][k] * x[k];
    x[j] = sum / r[j][j];
  }
  return {x, std::sqrt(dot(b, b))};
}

// The scan with time steps, B and C that do not depend on the input is S4's mechanism: h ← Ā h + B̄ x, y = C h.
TEST(EveryInitialState, IsAPrefixOfAtLeastAsManyRowsAsStates) {
  constexpr int64_t E = 3, H = 5, L = 7;
  const Tensor dt_raw = random_tensor({E}, 1, 0.2, 0.5), b = random_tensor({H}, 2, 0.3, 1), C = random_tensor({H}, 3);
  const Tensor D = random_tensor({E}, 4), target = random_tensor({1, E, H}, 5), X = random_tensor({L, E}, 6);
  Tensor A_log = Tensor::empty({E, H}, Dtype::kF64);
  for (int64_t i = 0; i < E * H; ++i)
    A_log.data<double>()[i] = std::log(0.15 * std::pow(1.9, static_cast<double>(i % H))) + 0.05 * (i / H);

  const auto scan = [&](const Tensor& x, const Tensor& h0) {
    const int64_t T = x.dim(0);
    Tensor dt = Tensor::empty({T, E}, Dtype::kF64), Bs = Tensor::empty({T, H}, Dtype::kF64), Cs = Bs.clone();
    for (int64_t t = 0; t < T; ++t) {
      for (const auto& [to, from] : {std::pair{dt, dt_raw}, {Bs, b}, {Cs, C}}) {
        Tensor row = to.row_range(t, 1);
        row.copy_from(from.reshape({1, from.numel()}));
      }
    }
    return ops::selective_scan({.x = Var(x),
                                .dt = Var(dt),
                                .A_log = Var(A_log),
                                .B = Var(Bs),
                                .C = Var(Cs),
                                .D = Var(D),
                                .h0 = h0.defined() ? Var(h0) : Var()},
                               Segments::one(T), true);
  };

  for (const int64_t M : {H - 2, H - 1, H, H + 2}) {
    Tensor P = Tensor::zeros({M, E}, Dtype::kF64);
    double missed = 0;
    for (int64_t e = 0; e < E; ++e) {
      const double step = std::log1p(std::exp(dt_raw.data<double>()[e]));
      const int64_t used = std::min(M, H);  // the last rows suffice
      std::vector<std::vector<double>> columns;
      for (int64_t m = M - used; m < M; ++m) {
        std::vector<double>& column = columns.emplace_back();
        for (int64_t n = 0; n < H; ++n) {
          const double a = std::exp(-step * std::exp(A_log.data<double>()[e * H + n]));
          column.push_back(std::pow(a, static_cast<double>(M - 1 - m)) * step * b.data<double>()[n]);
        }
      }
      const double* wanted = target.data<double>() + e * H;
      const auto [p, distance] = least_squares(columns, {wanted, wanted + H});
      for (int64_t m = 0; m < used; ++m) P.data<double>()[(M - used + m) * E + e] = p[static_cast<size_t>(m)];
      missed = std::max(missed, distance);
    }
    if (M < H) {
      EXPECT_GT(missed, 1e-3) << M << " rows reach a state of " << H;
      continue;
    }
    EXPECT_LT(relative_error(scan(P, {}).state.value(), target), 1e-10) << M;
    // And the same outputs behind it.
    Tensor both = Tensor::empty({M + L, E}, Dtype::kF64);
    Tensor head = both.row_range(0, M), rest = both.row_range(M, L);
    head.copy_from(P);
    rest.copy_from(X);
    EXPECT_LT(relative_error(scan(both, {}).y.value().row_range(M, L).values(), scan(X, target).y.value().values()),
              1e-10)
        << M;
  }
}

}  // namespace
}  // namespace molt

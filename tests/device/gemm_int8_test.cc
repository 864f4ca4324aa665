// Weights kept in 8 bits: how they are rounded, and products by them against products in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "molt/base/error.h"
#include "molt/device/gemm.h"
#include "molt/device/low_rank_product.h"
#include "molt/device/softmax_loss.h"
#include "tests/device/matrices.h"

namespace molt::test {
namespace {

/// W as 8 bits stand for it, worked out here.
std::vector<double> rounded_rows(const std::vector<double>& w, int64_t rows, int64_t cols) {
  std::vector<double> out(w.size());
  for (int64_t r = 0; r < rows; ++r) {
    double most = 0;
    for (int64_t c = 0; c < cols; ++c) most = std::max(most, std::abs(w[static_cast<size_t>(r * cols + c)]));
    const double scale = static_cast<float>(most) / 127.0f;
    for (int64_t c = 0; c < cols; ++c) {
      const auto i = static_cast<size_t>(r * cols + c);
      out[i] = most == 0 ? 0 : std::nearbyint(w[i] / scale) * scale;
    }
  }
  return out;
}

TEST(Int8Matrix, rows_are_rounded_to_a_127th_of_their_largest) {
  for (const Dtype compute : {Dtype::kF32, Dtype::kBf16, Dtype::kI8, Dtype::kF64})
    for (const auto& [forward, backward] : {std::pair{true, true}, {true, false}, {false, true}}) {
      Owned w(37, 150, Dtype::kF32, 3), rows(37, 150, Dtype::kF64);
      w.randomise(1);
      const PackedMatrix packed(w.view, {.compute = compute, .int8 = true, .forward = forward, .backward = backward});
      EXPECT_TRUE(packed.int8());
      packed.read_rows(0, rows.view);
      const std::vector<double> want = rounded_rows(w.values(), 37, 150), got = rows.values();
      for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-6 * 4) << i;  // factors are f32
    }
}

TEST(Int8Matrix, takes_half_of_bf16) {
  Owned w(640, 512, Dtype::kF32);
  w.randomise(1);
  const PackedMatrix packed(w.view, {.compute = Dtype::kBf16, .int8 = true});
  EXPECT_LT(packed.bytes(), 2 * 640 * 512 + 3 * 4 * 1280);
  EXPECT_GE(packed.bytes(), 640 * 512);
}

/// ‖got − want‖ / ‖want‖.
double distance(const std::vector<double>& got, const std::vector<double>& want) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  return std::sqrt(difference / norm);
}

struct Shape {
  int64_t t, o, i;
};

/// How far one number of a row may be from what 8 or 16 bits make of it, as a share of the row's largest: half a step.
double half_step(Dtype compute) { return compute == Dtype::kI8 ? 0.5 / 127 : 0.5 / 127 / 254; }

void expect_within(const Owned& got, const std::vector<double>& want, const std::vector<double>& bound) {
  const std::vector<double> values = got.values();
  ASSERT_EQ(values.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) ASSERT_LE(std::abs(values[i] - want[i]), bound[i]) << i;
}

/// sums += A (M,K) · B (K,N) in double; bound += how far a product may be from it whose left operand is rounded by
/// `share` of each row's largest number.
void product(const std::vector<double>& a, const std::vector<double>& b, int64_t m, int64_t k, int64_t n, double share,
             std::vector<double>& sums, std::vector<double>& bound) {
  for (int64_t r = 0; r < m; ++r) {
    double most = 0;
    for (int64_t l = 0; l < k; ++l) most = std::max(most, std::abs(a[static_cast<size_t>(r * k + l)]));
    for (int64_t c = 0; c < n; ++c) {
      double sum = 0, weights = 0, all = 0;
      for (int64_t l = 0; l < k; ++l) {
        const double x = a[static_cast<size_t>(r * k + l)], w = b[static_cast<size_t>(l * n + c)];
        sum += x * w, weights += std::abs(w), all += std::abs(x * w);
      }
      sums[static_cast<size_t>(r * n + c)] += sum;
      bound[static_cast<size_t>(r * n + c)] += share * most * weights * 1.01 + all * 1e-6;
    }
  }
}

std::vector<double> transposed(const std::vector<double>& m, int64_t rows, int64_t cols) {
  std::vector<double> out(m.size());
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) out[static_cast<size_t>(c * rows + r)] = m[static_cast<size_t>(r * cols + c)];
  return out;
}

bool multiplies_integers(const PackedMatrix& packed) {
  return packed.kernel_name(64, true).find("_int8x") != std::string::npos;
}

/// How far a number of a product's left operand may be off, as a share of the row's largest: half a step of 8 or 16
/// bits where such products run natively, else the rounding of f32.
double share_of(const PackedMatrix& packed, Dtype compute) {
  return multiplies_integers(packed) ? half_step(compute) : 1e-6;
}

void check(const Shape& s, Dtype compute, Dtype x_type, Dtype y_type, int64_t gap, bool bias, bool accumulate) {
  SCOPED_TRACE(str("T", s.t, " O", s.o, " I", s.i, " ", dtype_name(compute), " x ", dtype_name(x_type), " y ",
                   dtype_name(y_type), " gap ", gap, bias ? " bias" : "", accumulate ? " added" : ""));
  Owned w(s.o, s.i, Dtype::kF32), kept(s.o, s.i, Dtype::kF64);
  w.randomise(1);
  const PackedMatrix packed(w.view, {.compute = compute, .int8 = true, .rows_hint = 64});
  packed.read_rows(0, kept.view);
  const double share = share_of(packed, compute), last = y_type == Dtype::kBf16 ? 0x1p-8 : 1e-6;

  Owned x(s.t, s.i, x_type, gap), y(s.t, s.o, y_type, gap), add(1, s.o, Dtype::kF32);
  x.randomise(2), y.randomise(3), add.randomise(4);
  std::vector<double> want = accumulate ? y.values() : std::vector<double>(static_cast<size_t>(s.t * s.o));
  std::vector<double> bound(want.size());
  product(x.values(), transposed(kept.values(), s.o, s.i), s.t, s.i, s.o, share, want, bound);
  const std::vector<double> added = add.values();
  for (size_t i = 0; i < want.size(); ++i) {
    if (bias) want[i] += added[i % static_cast<size_t>(s.o)];
    bound[i] += last * (std::abs(want[i]) + 1);
  }
  packed.forward(x.view, y.view, bias ? add.view.data : nullptr, accumulate);
  expect_within(y, want, bound);
  EXPECT_TRUE(y.gaps_untouched());

  Owned dy(s.t, s.o, x_type, gap), dx(s.t, s.i, y_type, gap);
  dy.randomise(5), dx.randomise(6);
  want = accumulate ? dx.values() : std::vector<double>(static_cast<size_t>(s.t * s.i));
  bound.assign(want.size(), 0);
  // The rows' factors are in the operand that is rounded: s_o dy_o against the largest of those, at most max s · max
  // dy.
  const std::vector<double> weights = kept.values();
  double largest = 0, smallest = 1e30;
  for (int64_t o = 0; o < s.o; ++o) {
    double most = 0;
    for (int64_t i = 0; i < s.i; ++i) most = std::max(most, std::abs(weights[static_cast<size_t>(o * s.i + i)]));
    largest = std::max(largest, most), smallest = std::min(smallest, most);
  }
  product(dy.values(), weights, s.t, s.o, s.i, share * largest / smallest, want, bound);
  for (size_t i = 0; i < want.size(); ++i) bound[i] += last * (std::abs(want[i]) + 1);
  packed.backward(dy.view, dx.view, accumulate);
  expect_within(dx, want, bound);
  EXPECT_TRUE(dx.gaps_untouched());
}

TEST(Int8Matrix, every_type_stride_and_option) {
  for (const Dtype compute : {Dtype::kF32, Dtype::kBf16, Dtype::kI8})
    for (const Dtype x : {Dtype::kF32, Dtype::kBf16})
      for (const Dtype y : {Dtype::kF32, Dtype::kBf16})
        for (const int64_t gap : {0, 5})
          for (const bool bias : {false, true})
            for (const bool accumulate : {false, true})
              for (const int64_t t : {3, 13, 70}) check({t, 37, 29}, compute, x, y, gap, bias, accumulate);
}

TEST(Int8Matrix, rows_from_one_to_many) {
  for (const Dtype compute : {Dtype::kBf16, Dtype::kI8})
    for (const int64_t t : {1, 2, 3, 4, 5, 14, 16, 17, 31, 33, 200})
      for (const auto& [o, i] : {std::pair<int64_t, int64_t>{80, 192}, {192, 48}, {257, 64}, {1, 7}, {65, 1}})
        check({t, o, i}, compute, Dtype::kF32, Dtype::kF32, 0, false, false);
}

TEST(Int8Matrix, long_sums_in_several_parts) {
  for (const Dtype compute : {Dtype::kBf16, Dtype::kI8})
    for (const int64_t t : {1, 40, 70})
      for (const bool accumulate : {false, true}) {
        check({t, 70, 3500}, compute, Dtype::kBf16, Dtype::kF32, 1, true, accumulate);
        check({t, 3333, 70}, compute, Dtype::kF32, Dtype::kBf16, 0, false, accumulate);
      }
}

TEST(Int8Matrix, a_gradient_that_comes_back_through_a_vocabulary_keeps_its_small_numbers) {
  for (const auto& [v, d] : {std::pair<int64_t, int64_t>{9000, 16}, {1000, 256}}) {
    Owned w(v, d, Dtype::kF32), kept(v, d, Dtype::kF64), dy(8, v, Dtype::kF32), dx(8, d, Dtype::kF32);
    w.randomise(1), dy.randomise(2);
    auto* values = static_cast<float*>(dy.view.data);
    for (int64_t i = 0; i < 8 * v; ++i) values[i] *= 1e-3f;  // together more than the label's
    for (int64_t t = 0; t < 8; ++t) values[t * v + 77] = -1;
    const PackedMatrix packed(w.view, {.compute = Dtype::kI8, .int8 = true, .vocabulary = true});
    packed.read_rows(0, kept.view);
    packed.backward(dy.view, dx.view);
    Reference want(std::vector<double>(static_cast<size_t>(8 * d)));
    want.add_product(dy.values(), false, kept.values(), false, 8, d, v);
    EXPECT_LT(distance(dx.values(), want.value), 0.005) << v;
  }
}

TEST(Int8Matrix, large_results_go_past_the_caches) {
  check({260, 1056, 64}, Dtype::kBf16, Dtype::kF32, Dtype::kF32, 0, true, false);
  check({260, 1056, 64}, Dtype::kI8, Dtype::kBf16, Dtype::kBf16, 0, false, false);
}

TEST(Int8Matrix, a_row_of_zeros_gives_zeros_and_nan_stays_in_its_row) {
  Owned w(40, 70, Dtype::kF32);
  w.randomise(1);
  for (const Dtype compute : {Dtype::kBf16, Dtype::kI8})
    for (const int64_t t : {4, 40}) {
      const PackedMatrix packed(w.view, {.compute = compute, .int8 = true});
      Owned x(t, 70, Dtype::kF32), y(t, 40, Dtype::kF32);
      x.randomise(2);
      auto* values = static_cast<float*>(x.view.data);
      std::fill_n(values + 70, 70, 0.0f);
      values[2 * 70 + 5] = std::numeric_limits<float>::quiet_NaN();
      values[3 * 70 + 69] = std::numeric_limits<float>::infinity();
      packed.forward(x.view, y.view);
      const std::vector<double> got = y.values();
      for (int64_t r = 0; r < t; ++r)
        for (int64_t c = 0; c < 40; ++c) {
          const double v = got[static_cast<size_t>(r * 40 + c)];
          if (r == 1) {
            EXPECT_EQ(v, 0);
          } else if (r == 2 || r == 3) {
            EXPECT_FALSE(std::isfinite(v)) << r;
          } else {
            EXPECT_TRUE(std::isfinite(v)) << r;
          }
        }
    }
}

TEST(Int8Matrix, one_row_is_as_in_a_batch_to_the_bit) {
  Owned w(200, 300, Dtype::kF32), x(40, 300, Dtype::kF32), all(40, 200, Dtype::kF32), one(1, 200, Dtype::kF32);
  w.randomise(1), x.randomise(2);
  const PackedMatrix packed(w.view, {.compute = Dtype::kI8, .int8 = true});
  if (!multiplies_integers(packed)) GTEST_SKIP() << "sums are of floating numbers here";
  packed.forward(x.view, all.view);
  for (const int64_t row : {0, 17, 39}) {
    packed.forward(ConstMatrix(x.view).row_range(row, 1), one.view);
    const std::vector<double> batch = all.values(), alone = one.values();
    for (size_t c = 0; c < 200; ++c) EXPECT_EQ(alone[c], batch[static_cast<size_t>(row) * 200 + c]);
  }
}

TEST(Int8Matrix, low_rank_additions_ride_along) {
  for (const Dtype compute : {Dtype::kBf16, Dtype::kI8})
    for (const int64_t t : {5, 16, 40, 100}) {
      Owned w(96, 130, Dtype::kF32), x(t, 130, Dtype::kF32), A(6, 130, Dtype::kF32), B(32, 6, Dtype::kF32);
      w.randomise(1), x.randomise(2), A.randomise(3), B.randomise(4);
      const PackedMatrix packed(w.view, {.compute = compute, .int8 = true});
      if (!LowRankProduct::available(packed, 6)) GTEST_SKIP() << "no tiles of bf16 here";
      const LowRankFactors factors{A.view, B.view, 0.5, 64};
      Owned y(t, 96, Dtype::kF32), dy(t, 96, Dtype::kF32), dx(t, 130, Dtype::kF32), dA(6, 130, Dtype::kF32),
          dB(32, 6, Dtype::kF32);
      dy.randomise(5);
      LowRankProduct product;
      product.forward(packed, x.view, nullptr, factors, y.view, true);
      product.backward(packed, dy.view, factors, {dx.view}, {dA.view}, {dB.view});

      Owned kept(96, 130, Dtype::kF64);
      packed.read_rows(0, kept.view);
      Reference u(std::vector<double>(static_cast<size_t>(t * 6)));
      u.add_product(x.values(), false, A.values(), true, t, 6, 130);
      std::vector<double> wide(96 * 6);  // scale · B at its rows
      for (size_t i = 0; i < 32 * 6; ++i) wide[64 * 6 + i] = 0.5 * B.values()[i];
      Reference want(std::vector<double>(static_cast<size_t>(t * 96)));
      want.add_product(x.values(), false, kept.values(), true, t, 96, 130);
      want.add_product(u.value, false, wide, true, t, 96, 6);
      // Operands of 8 bits are off by a 400th each; the low-rank part's are bf16.
      const double most = compute == Dtype::kI8 ? 0.015 : 0.005;
      EXPECT_LT(distance(y.values(), want.value), most) << t;

      Reference du(std::vector<double>(static_cast<size_t>(t * 6))),
          back(std::vector<double>(static_cast<size_t>(t * 130)));
      du.add_product(dy.values(), false, wide, false, t, 6, 96);
      back.add_product(dy.values(), false, kept.values(), false, t, 130, 96);
      back.add_product(du.value, false, A.values(), false, t, 130, 6);
      EXPECT_LT(distance(dx.values(), back.value), most) << t;
      Reference gradient(std::vector<double>(6 * 130));
      gradient.add_product(du.value, true, x.values(), false, 6, 130, t);
      EXPECT_LT(distance(dA.values(), gradient.value), 0.01) << t;
    }
}

TEST(Int8Matrix, softmax_loss_is_that_of_the_weight_as_it_is_kept) {
  for (const auto& [t, v] : {std::pair<int64_t, int64_t>{5, 700}, {300, 530}, {40, 33}}) {
    Owned w(v, 90, Dtype::kF32), x(t, 90, Dtype::kF32), dx(t, 90, Dtype::kF32), kept(v, 90, Dtype::kF64);
    w.randomise(1), x.randomise(2);
    const PackedMatrix packed(w.view, {.compute = Dtype::kBf16, .int8 = true});
    if (!softmax_loss_available(packed, true)) GTEST_SKIP() << "no tiles of bf16 here";
    packed.read_rows(0, kept.view);
    std::vector<int32_t> labels;
    for (int64_t i = 0; i < t; ++i) labels.push_back(static_cast<int32_t>(i * 131 % v));
    const double loss = softmax_loss(packed, x.view, labels, dx.view);

    Reference logits(std::vector<double>(static_cast<size_t>(t * v)));
    logits.add_product(rounded(x.values(), Dtype::kBf16), false, kept.values(), true, t, v, 90);
    double want = 0;
    std::vector<double> shares(logits.value.size());
    for (int64_t r = 0; r < t; ++r) {
      const double* row = logits.value.data() + r * v;
      const double most = *std::max_element(row, row + v);
      double sum = 0;
      for (int64_t c = 0; c < v; ++c) sum += std::exp(row[c] - most);
      for (int64_t c = 0; c < v; ++c) shares[static_cast<size_t>(r * v + c)] = std::exp(row[c] - most) / sum;
      want += std::log(sum) + most - row[labels[static_cast<size_t>(r)]];
      shares[static_cast<size_t>(r * v + labels[static_cast<size_t>(r)])] -= 1;
    }
    EXPECT_NEAR(loss, want, 1e-5 * std::abs(want));
    Reference gradient(std::vector<double>(static_cast<size_t>(t * 90)));
    gradient.add_product(shares, false, kept.values(), false, t, 90, v);
    EXPECT_LT(distance(dx.values(), gradient.value), 0.005);  // exponentials are rounded to bf16
  }
}

}  // namespace
}  // namespace molt::test

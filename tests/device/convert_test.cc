// Conversions: the vector code against the scalar types, at every length and for special values.
#include "molt/device/convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/device/matrices.h"

namespace molt::test {
namespace {

TEST(Convert, f32_to_bf16_equals_the_scalar_rounding) {
  // Every upper half, with lower halves around the ties.
  std::vector<float> values;
  for (uint32_t high = 0; high < 0x10000; high += 7)
    for (const uint32_t low : {0x0000u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
      values.push_back(std::bit_cast<float>(high << 16 | low));
  std::vector<bf16> out(values.size());
  const int64_t n = static_cast<int64_t>(values.size());
  convert(matrix_of(values.data(), 1, n), matrix_of(out.data(), 1, n));
  for (size_t i = 0; i < values.size(); ++i)
    ASSERT_EQ(out[i].bits, bf16(values[i]).bits) << std::hex << std::bit_cast<uint32_t>(values[i]);
  std::vector<float> back(values.size());
  convert(matrix_of(out.data(), 1, n), matrix_of(back.data(), 1, n));
  for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(std::bit_cast<uint32_t>(back[i]), uint32_t{out[i].bits} << 16);
}

TEST(Convert, strides_lengths_and_types) {
  const std::vector<Dtype> types = {Dtype::kF32, Dtype::kF64, Dtype::kBf16, Dtype::kF16};
  for (const Dtype from : types)
    for (const Dtype to : types)
      for (const int64_t cols : {1, 15, 16, 33, 5000}) {
        Owned a(7, cols, from, 3), b(7, cols, to, 2);
        a.randomise(1), b.randomise(2);
        const std::vector<double> before = b.values(), in = a.values();
        convert(a.view, b.view);
        EXPECT_TRUE(b.gaps_untouched());
        const std::vector<double> got = b.values();
        for (size_t i = 0; i < in.size(); ++i)  // f64 to a half rounds twice, by way of f32
          ASSERT_NEAR(got[i], in[i], 1.001 * unit_roundoff(to) * std::abs(in[i]) + 0x1p-25);
        convert_add(a.view, b.view);
        const std::vector<double> sum = b.values();
        for (size_t i = 0; i < in.size(); ++i)
          ASSERT_NEAR(sum[i], got[i] + in[i],
                      1.001 * unit_roundoff(to) * std::abs(got[i] + in[i]) + 0x1p-24 * std::abs(in[i]) + 0x1p-25);
      }
}

TEST(Convert, shapes_must_agree) {
  Owned a(2, 3, Dtype::kF32), b(3, 2, Dtype::kF32);
  EXPECT_THROW(convert(a.view, b.view), InternalError);
}

}  // namespace
}  // namespace molt::test

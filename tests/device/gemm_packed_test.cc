// PackedMatrix against products in double: every type, strides, bias, accumulation, odd sizes.
#include <gtest/gtest.h>

#include "molt/base/error.h"
#include "molt/device/cpu_info.h"
#include "molt/device/gemm.h"
#include "tests/device/matrices.h"

namespace molt::test {
namespace {

struct Case {
  int64_t t, o, i;
  Dtype weight, compute, x, y;
  int64_t gap = 0;
  bool bias = false, accumulate = false;
};

std::string name(const Case& c) {
  return str("T", c.t, "_O", c.o, "_I", c.i, "_w", dtype_name(c.weight), "_", dtype_name(c.compute), "_x",
             dtype_name(c.x), "_y", dtype_name(c.y), "_gap", c.gap, c.bias ? "_bias" : "", c.accumulate ? "_acc" : "");
}

Dtype sums(const Case& c) { return c.compute == Dtype::kF64 ? Dtype::kF64 : Dtype::kF32; }

/// What products see of an operand: rounded to bf16 where they run in bf16.
std::vector<double> operand(const Owned& m, const Case& c) {
  return c.compute == Dtype::kBf16 && bf16_supported() ? rounded(m.values(), Dtype::kBf16) : m.values();
}

void check(const Case& c) {
  SCOPED_TRACE(name(c));
  Owned w(c.o, c.i, c.weight, c.gap);
  w.randomise(1);
  const PackedMatrix packed(w.view, {.compute = c.compute, .rows_hint = 64});
  const std::vector<double> seen_w = rounded(w.values(), c.compute);

  Owned x(c.t, c.i, c.x, c.gap), y(c.t, c.o, c.y, c.gap), bias(1, c.o, sums(c));
  x.randomise(2), y.randomise(3), bias.randomise(4);
  Reference forward(c.accumulate ? y.values() : std::vector<double>(static_cast<size_t>(c.t * c.o)));
  forward.add_product(operand(x, c), false, seen_w, true, c.t, c.o, c.i);
  if (c.bias) forward.add_row(bias.values());
  packed.forward(x.view, y.view, c.bias ? bias.view.data : nullptr, c.accumulate);
  expect_close(y.values(), forward, c.i, sums(c), c.y);
  EXPECT_TRUE(y.gaps_untouched());

  Owned dy(c.t, c.o, c.x, c.gap), dx(c.t, c.i, c.y, c.gap);
  dy.randomise(5), dx.randomise(6);
  Reference backward(c.accumulate ? dx.values() : std::vector<double>(static_cast<size_t>(c.t * c.i)));
  backward.add_product(operand(dy, c), false, seen_w, false, c.t, c.i, c.o);
  packed.backward(dy.view, dx.view, c.accumulate);
  expect_close(dx.values(), backward, c.o, sums(c), c.y);
  EXPECT_TRUE(dx.gaps_untouched());
}

TEST(PackedMatrix, every_type_stride_and_option) {
  for (const Dtype compute : {Dtype::kF32, Dtype::kBf16, Dtype::kF64}) {
    const bool f64 = compute == Dtype::kF64;
    for (const Dtype x : f64 ? std::vector{Dtype::kF64} : std::vector{Dtype::kF32, Dtype::kBf16})
      for (const Dtype y : f64 ? std::vector{Dtype::kF64} : std::vector{Dtype::kF32, Dtype::kBf16})
        for (const int64_t gap : {0, 5})
          for (const bool bias : {false, true})
            for (const bool accumulate : {false, true})
              check({.t = 13,
                     .o = 37,
                     .i = 29,
                     .weight = f64 ? Dtype::kF64 : Dtype::kF32,
                     .compute = compute,
                     .x = x,
                     .y = y,
                     .gap = gap,
                     .bias = bias,
                     .accumulate = accumulate});
  }
}

TEST(PackedMatrix, rows_from_one_to_many_at_model_like_shapes) {
  for (const Dtype compute : {Dtype::kF32, Dtype::kBf16})
    for (const int64_t t : {1, 2, 3, 5, 6, 7, 14, 16, 17, 64, 65, 512})
      for (const auto& [o, i] : {std::pair<int64_t, int64_t>{80, 192}, {192, 48}, {257, 64}, {1, 7}, {65, 1}})
        check({.t = t, .o = o, .i = i, .weight = compute, .compute = compute, .x = compute, .y = Dtype::kF32});
}

TEST(PackedMatrix, long_sums_in_several_products) {
  for (const int64_t t : {1, 5, 70})
    for (const Dtype y : {Dtype::kF32, Dtype::kBf16})
      for (const bool accumulate : {false, true})
        for (const auto& [o, i] : {std::pair<int64_t, int64_t>{260, 2500}, {3333, 257}})
          check({.t = t,
                 .o = o,
                 .i = i,
                 .weight = Dtype::kBf16,
                 .compute = Dtype::kBf16,
                 .x = Dtype::kBf16,
                 .y = y,
                 .gap = 1,
                 .bias = true,
                 .accumulate = accumulate});
}

TEST(PackedMatrix, takes_every_stored_type) {
  for (const Dtype weight : {Dtype::kF32, Dtype::kF64, Dtype::kBf16, Dtype::kF16})
    for (const Dtype compute : {Dtype::kF32, Dtype::kBf16})
      for (const int64_t gap : {0, 3})
        check({.t = 4,
               .o = 19,
               .i = 21,
               .weight = weight,
               .compute = compute,
               .x = Dtype::kF32,
               .y = Dtype::kF32,
               .gap = gap});
}

TEST(PackedMatrix, rows_come_back) {
  for (const Dtype compute : {Dtype::kF32, Dtype::kBf16, Dtype::kF64})
    for (const auto& [forward, outputs, inputs] :
         {std::tuple<bool, int64_t, int64_t>{true, 67, 33}, {false, 67, 33}, {true, 257, 2100}, {false, 2050, 300}}) {
      Owned w(outputs, inputs, Dtype::kF64);
      w.randomise(7);
      const PackedMatrix packed(w.view, {.compute = compute, .forward = forward, .backward = !forward});
      const std::vector<double> want = rounded(w.values(), compute);
      EXPECT_GE(packed.bytes(), want.size() * dtype_size(compute));
      for (const Dtype out : {Dtype::kF32, Dtype::kF64, Dtype::kBf16}) {
        Owned rows(outputs, inputs, out, 2);
        packed.read_rows(0, rows.view);
        EXPECT_EQ(rows.values(), rounded(want, out));
        EXPECT_TRUE(rows.gaps_untouched());
      }
      const size_t columns = static_cast<size_t>(inputs);
      const int64_t ids[] = {66, 0, 13, 66};
      Owned some(4, inputs, compute == Dtype::kF64 ? Dtype::kF64 : Dtype::kF32);
      packed.gather_rows(ids, some.view);
      const std::vector<double> got = some.values();
      for (size_t r = 0; r < 4; ++r)
        for (size_t c = 0; c < columns; ++c)
          EXPECT_EQ(got[r * columns + c], want[static_cast<size_t>(ids[r]) * columns + c]);
      EXPECT_THROW(packed.read_rows(outputs - 3, Owned(4, inputs, Dtype::kF32).view), InternalError);
    }
}

TEST(PackedMatrix, lies_once_and_narrow_without_avx512) {
  if (!cpu_info().plain_weights) GTEST_SKIP() << "weights are packed for each direction here";
  Owned wide(300, 200, Dtype::kF32);
  wide.randomise(1);
  EXPECT_EQ(PackedMatrix(wide.view, {.compute = Dtype::kF32}).bytes(), 4u * 300 * 200);
  EXPECT_EQ(PackedMatrix(wide.view, {.compute = Dtype::kBf16}).bytes(), 2u * 300 * 200);
}

TEST(PackedMatrix, repacking_replaces_the_values) {
  Owned first(20, 30, Dtype::kF32), second(20, 30, Dtype::kF32), x(5, 30, Dtype::kF32), y(5, 20, Dtype::kF32);
  first.randomise(1), second.randomise(2), x.randomise(3);
  PackedMatrix packed(first.view, {});
  packed.repack(second.view);
  packed.forward(x.view, y.view);
  Reference want(std::vector<double>(100));
  want.add_product(x.values(), false, second.values(), true, 5, 20, 30);
  expect_close(y.values(), want, 30, Dtype::kF32, Dtype::kF32);
}

TEST(PackedMatrix, same_inputs_same_bits) {
  Owned w(512, 384, Dtype::kF32), x(130, 384, Dtype::kF32);
  w.randomise(1), x.randomise(2);
  for (const Dtype compute : {Dtype::kF32, Dtype::kBf16}) {
    const PackedMatrix a(w.view, {.compute = compute}), b(w.view, {.compute = compute});
    Owned first(130, 512, Dtype::kF32), again(130, 512, Dtype::kF32), other(130, 512, Dtype::kF32);
    a.forward(x.view, first.view);
    a.forward(x.view, again.view);
    b.forward(x.view, other.view);
    EXPECT_EQ(first.memory, again.memory);
    EXPECT_EQ(first.memory, other.memory);
  }
}

TEST(PackedMatrix, refuses_what_does_not_fit) {
  Owned w(8, 6, Dtype::kF32), x(3, 6, Dtype::kF32), y(3, 8, Dtype::kF32), wrong(3, 7, Dtype::kF32);
  w.randomise(1), x.randomise(2);
  const PackedMatrix forward_only(w.view, {.backward = false});
  EXPECT_THROW(forward_only.forward(wrong.view, y.view), InternalError);
  EXPECT_THROW(forward_only.forward(x.view, wrong.view), InternalError);
  EXPECT_THROW(forward_only.backward(y.view, x.view), InternalError);
  EXPECT_THROW(PackedMatrix(w.view, {.compute = Dtype::kI8}), InternalError);
  EXPECT_THROW(PackedMatrix(w.view, {.forward = false, .backward = false}), InternalError);
  EXPECT_NO_THROW(forward_only.forward(Owned(0, 6, Dtype::kF32).view, Owned(0, 8, Dtype::kF32).view));
}

}  // namespace
}  // namespace molt::test

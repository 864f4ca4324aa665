// General products against products in double: every transposition, type and stride, small and large dimensions.
#include <gtest/gtest.h>

#include "molt/base/error.h"
#include "molt/device/cpu_info.h"
#include "molt/device/gemm.h"
#include "tests/device/matrices.h"

namespace molt::test {
namespace {

struct Case {
  int64_t m, n, k;
  Dtype a = Dtype::kF32, b = Dtype::kF32, c = Dtype::kF32;
  int64_t gap = 0;
  double alpha = 1, beta = 0;
};

void check(const Case& x) {
  for (const bool trans_a : {false, true})
    for (const bool trans_b : {false, true}) {
      SCOPED_TRACE(str("M", x.m, " N", x.n, " K", x.k, " ", dtype_name(x.a), " ", dtype_name(x.b), " ", dtype_name(x.c),
                       " gap ", x.gap, " alpha ", x.alpha, " beta ", x.beta, trans_a ? " Aᵀ" : "",
                       trans_b ? " Bᵀ" : ""));
      Owned a(trans_a ? x.k : x.m, trans_a ? x.m : x.k, x.a, x.gap),
          b(trans_b ? x.n : x.k, trans_b ? x.k : x.n, x.b, x.gap);
      Owned c(x.m, x.n, x.c, x.gap);
      a.randomise(1), b.randomise(2);
      if (x.beta != 0) c.randomise(3);  // NaN otherwise: beta = 0 must not read C
      std::vector<double> start(static_cast<size_t>(x.m * x.n));
      if (x.beta != 0) {
        start = c.values();
        for (double& v : start) v *= x.beta;
      }
      Reference want(start);
      want.add_product(a.values(), trans_a, b.values(), trans_b, x.m, x.n, x.k, x.alpha);
      gemm({.a = a.view,
            .b = b.view,
            .c = c.view,
            .trans_a = trans_a,
            .trans_b = trans_b,
            .alpha = x.alpha,
            .beta = x.beta});
      expect_close(c.values(), want, x.k, x.c == Dtype::kF64 ? Dtype::kF64 : Dtype::kF32, x.c);
      EXPECT_TRUE(c.gaps_untouched());
    }
}

TEST(Gemm, low_rank_shapes) {
  for (const int64_t rank : {1, 2, 4, 8, 13, 16, 64})
    for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
      check({.m = 70, .n = rank, .k = 150, .a = dtype, .b = dtype, .c = dtype});
      check({.m = 70, .n = 150, .k = rank, .a = dtype, .b = dtype, .c = dtype});
      check({.m = rank, .n = 150, .k = 300, .a = dtype, .b = dtype, .c = dtype});
      check({.m = 150, .n = rank, .k = 300, .a = dtype, .b = dtype, .c = dtype, .gap = 3, .alpha = 0.5, .beta = 1});
    }
}

TEST(Gemm, strides_factors_and_types) {
  for (const Dtype a : {Dtype::kF32, Dtype::kBf16})
    for (const Dtype b : {Dtype::kF32, Dtype::kBf16})
      for (const Dtype c : {Dtype::kF32, Dtype::kBf16})
        for (const double beta : {0.0, 1.0, -0.25})
          for (const auto& [m, n, k] :
               {std::tuple<int64_t, int64_t, int64_t>{8, 90, 100}, {90, 8, 100}, {90, 100, 8}, {66, 67, 70}})
            check({.m = m, .n = n, .k = k, .a = a, .b = b, .c = c, .gap = 5, .alpha = 2.0, .beta = beta});
}

TEST(Gemm, every_small_size) {
  for (int64_t m = 1; m <= 9; ++m)
    for (int64_t n = 1; n <= 50; n += n < 19 ? 1 : 13)
      for (const int64_t k : {1, 7, 33}) check({.m = m, .n = n, .k = k, .beta = 1});
  check({.m = 65, .n = 1, .k = 1});
  check({.m = 1, .n = 129, .k = 500});
  check({.m = 129, .n = 1, .k = 500});
}

TEST(Gemm, large) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64, Dtype::kBf16})
    for (const double beta : {0.0, 1.0})
      check({.m = 130,
             .n = 141,
             .k = 200,
             .a = dtype,
             .b = dtype,
             .c = dtype == Dtype::kF64 ? dtype : Dtype::kF32,
             .beta = beta});
}

TEST(Gemm, an_empty_sum_leaves_beta_c) {
  Owned a(3, 0, Dtype::kF32), b(0, 4, Dtype::kF32), c(3, 4, Dtype::kF32);
  c.randomise(1);
  std::vector<double> want = c.values();
  for (double& v : want) v *= 2;
  gemm({.a = a.view, .b = b.view, .c = c.view, .beta = 2});
  EXPECT_EQ(c.values(), want);
  gemm({.a = a.view, .b = b.view, .c = c.view});
  EXPECT_EQ(c.values(), std::vector<double>(12));
  EXPECT_NO_THROW(gemm(
      {.a = Owned(0, 5, Dtype::kF32).view, .b = Owned(5, 4, Dtype::kF32).view, .c = Owned(0, 4, Dtype::kF32).view}));
}

TEST(Gemm, low_rank_bits_do_not_depend_on_threads) {
  const int threads = compute_threads();
  for (const auto& [m, n, k] : {std::tuple<int64_t, int64_t, int64_t>{8, 900, 700}, {700, 8, 900}, {700, 900, 8}}) {
    Owned a(m, k, Dtype::kF32), b(k, n, Dtype::kF32), one(m, n, Dtype::kF32), three(m, n, Dtype::kF32);
    a.randomise(1), b.randomise(2);
    set_compute_threads(1);
    gemm({.a = a.view, .b = b.view, .c = one.view});
    set_compute_threads(3);
    gemm({.a = a.view, .b = b.view, .c = three.view});
    EXPECT_EQ(one.memory, three.memory);
  }
  set_compute_threads(threads);
}

TEST(Gemm, refuses_what_does_not_fit) {
  Owned a(3, 4, Dtype::kF32), b(5, 6, Dtype::kF32), c(3, 6, Dtype::kF32), d(4, 6, Dtype::kF64), e(4, 6, Dtype::kF16);
  EXPECT_THROW(gemm({.a = a.view, .b = b.view, .c = c.view}), InternalError);
  EXPECT_THROW(gemm({.a = a.view, .b = d.view, .c = c.view}), InternalError);
  EXPECT_THROW(gemm({.a = a.view, .b = e.view, .c = c.view}), InternalError);
}

TEST(CpuInfo, says_what_there_is) {
  const CpuInfo info = cpu_info();
  EXPECT_FALSE(info.simd.empty());
  EXPECT_FALSE(info.matmul.empty());
  EXPECT_EQ(info.bf16, bf16_supported());
  EXPECT_EQ(info.threads, compute_threads());
  EXPECT_THROW(set_compute_threads(0), InternalError);
  std::cout << "simd " << info.simd << ", products " << info.matmul << ", oneDNN " << info.onednn << '\n';
}

}  // namespace
}  // namespace molt::test

// Elementary functions on vectors, for kernels: exp, sigmoid, softplus. Include after hwy/highway.h, inside no
// namespace; compiled once per instruction set. f32 to about one unit in the last place, f64 through Highway's accurate
// versions.
#if defined(MOLT_OPS_SIMD_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MOLT_OPS_SIMD_MATH_INL_H_
#undef MOLT_OPS_SIMD_MATH_INL_H_
#else
#define MOLT_OPS_SIMD_MATH_INL_H_
#endif

#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

#include "molt/device/dtype.h"
#include "molt/ops/simd.h"
#include "molt/ops/simd_memory-inl.h"

HWY_BEFORE_NAMESPACE();
namespace molt::ops::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// 1 / v for finite v whose reciprocal is normal.
template <class D>
HWY_INLINE hn::Vec<D> reciprocal(D d, hn::Vec<D> v) {
#if HWY_TARGET == HWY_AVX3
  if constexpr (sizeof(hn::TFromD<D>) == 4) {
    // 14 bits and one Newton step: a third of the time of a division here, half a unit less exact.
    const hn::Vec<D> r{_mm512_rcp14_ps(v.raw)};
    return hn::MulAdd(r, hn::NegMulAdd(v, r, hn::Set(d, 1.0f)), r);
  }
#endif
  return hn::Div(hn::Set(d, hn::TFromD<D>(1)), v);
}

/// Whether the smaller or larger of a number and NaN is the number; x86 returns the second of the two.
constexpr bool kDropsNaN = kEmulated || HWY_TARGET == HWY_NEON;

/// The smaller or the larger of a limit and v; NaN stays NaN.
template <class D>
HWY_INLINE hn::Vec<D> at_most(D d, hn::TFromD<D> limit, hn::Vec<D> v) {
  const auto most = hn::Set(d, limit);
  if constexpr (kDropsNaN) return hn::IfThenElse(hn::Gt(v, most), most, v);
  return hn::Min(most, v);
}
template <class D>
HWY_INLINE hn::Vec<D> at_least(D d, hn::TFromD<D> limit, hn::Vec<D> v) {
  const auto least = hn::Set(d, limit);
  if constexpr (kDropsNaN) return hn::IfThenElse(hn::Lt(v, least), least, v);
  return hn::Max(least, v);
}

/// Highway's e^x, accurate to a unit in the last place, also for NaN: emulated, its conversion to whole numbers is
/// undefined there.
template <class D>
HWY_INLINE hn::Vec<D> accurate_exp(D d, hn::Vec<D> x) {
  if constexpr (!kEmulated) return hn::Exp(d, x);
  const auto nan = hn::IsNaN(x);
  return hn::IfThenElse(nan, x, hn::Exp(d, hn::IfThenZeroElse(nan, x)));
}

namespace detail {

// p · 2ⁿ for whole n; below the normal range it may stop at 2^-126.
template <class D>
HWY_INLINE hn::Vec<D> times_power_of_two(D d, hn::Vec<D> p, hn::Vec<D> n) {
#if HWY_TARGET == HWY_AVX3
  (void)d;
  return hn::Vec<D>{_mm512_scalef_ps(p.raw, n.raw)};
#else
  const hn::RebindToSigned<D> di;
  if constexpr (kEmulated) n = hn::IfThenZeroElse(hn::IsNaN(n), n);  // p is NaN too
  const auto bits = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127)));
  return hn::Mul(p, hn::BitCast(d, bits));
#endif
}

}  // namespace detail

// The functions below take K vectors at once and advance them step by step together: one alone is a chain of dependent
// instructions, and a processor's window is too short to find work in the next one by itself.
#define MOLT_EACH(K) \
  MOLT_UNROLL(8)     \
  for (int i = 0; i < (K); ++i)

/// x = e^x for x <= 87 (f32) or 700 (f64). f32: relative error below 1e-7; below -87 it saturates. NaN stays.
template <int K, class D>
HWY_INLINE void exp_each(D d, hn::Vec<D> (&x)[K]) {
  if constexpr (sizeof(hn::TFromD<D>) == 8) {
    MOLT_EACH(K) x[i] = accurate_exp(d, x[i]);
  } else {
    // x = (n + f) ln 2, |f| <= 1/2.
    const auto log2e = hn::Set(d, 1.44269502f);
    hn::Vec<D> n[K], p[K];
    MOLT_EACH(K) x[i] = at_least(d, -87.0f, x[i]);
    MOLT_EACH(K) n[i] = hn::Mul(x[i], log2e);
    MOLT_EACH(K) n[i] = hn::Round(n[i]);
    if constexpr (kEmulated) {
      // Without fused multiply-add: ln 2 in two parts, the first short enough for exact products.
      MOLT_EACH(K) x[i] = hn::Sub(x[i], hn::Mul(n[i], hn::Set(d, 0.693359375f)));
      MOLT_EACH(K) x[i] = hn::Mul(hn::Sub(x[i], hn::Mul(n[i], hn::Set(d, -2.12194440e-4f))), log2e);
    } else {
      MOLT_EACH(K) p[i] = hn::MulSub(x[i], log2e, n[i]);
      MOLT_EACH(K) x[i] = hn::MulAdd(x[i], hn::Set(d, 1.92596299e-8f), p[i]);  // what log2e lacks
    }
    // 2^f, minimax in relative error (1.9e-9).
    MOLT_EACH(K) p[i] = hn::MulAdd(hn::Set(d, 1.53458120e-4f), x[i], hn::Set(d, 1.33999314e-3f));
    MOLT_EACH(K) p[i] = hn::MulAdd(p[i], x[i], hn::Set(d, 9.61848896e-3f));
    MOLT_EACH(K) p[i] = hn::MulAdd(p[i], x[i], hn::Set(d, 5.55032878e-2f));
    MOLT_EACH(K) p[i] = hn::MulAdd(p[i], x[i], hn::Set(d, 2.40226469e-1f));
    MOLT_EACH(K) p[i] = hn::MulAdd(p[i], x[i], hn::Set(d, 6.93147206e-1f));
    MOLT_EACH(K) p[i] = hn::MulAdd(p[i], x[i], hn::Set(d, 1.0f));
    MOLT_EACH(K) x[i] = detail::times_power_of_two(d, p[i], n[i]);
  }
}

/// s = 1 / (1 + e^-x).
template <int K, class D>
HWY_INLINE void sigmoid_each(D d, const hn::Vec<D> (&x)[K], hn::Vec<D> (&s)[K]) {
  using T = hn::TFromD<D>;
  // Beyond the clamp the result is below 2e-35 (f32): still positive, and its reciprocal is finite.
  MOLT_EACH(K) s[i] = at_most(d, T(sizeof(T) == 4 ? 80 : 700), hn::Neg(x[i]));
  exp_each(d, s);
  MOLT_EACH(K) s[i] = hn::Add(hn::Set(d, T(1)), s[i]);
  MOLT_EACH(K) s[i] = reciprocal(d, s[i]);
}

/// d/dx of x · sigmoid(x), given s = sigmoid(x).
template <class D>
HWY_INLINE hn::Vec<D> silu_slope(D d, hn::Vec<D> x, hn::Vec<D> s) {
  return hn::MulAdd(hn::Mul(x, s), hn::Sub(hn::Set(d, hn::TFromD<D>(1)), s), s);
}

/// v = log(1 + v) for 0 <= v < 2^30, with small relative error however small v is.
template <int K, class D>
HWY_INLINE void log1p_each(D d, hn::Vec<D> (&v)[K]) {
  if constexpr (sizeof(hn::TFromD<D>) == 8) {
    MOLT_EACH(K) v[i] = hn::Log1p(d, v[i]);
  } else {
    // 1 + v = 2^k (1 + f), 1 + f in [3/4, 3/2): f = v 2^-k + (2^-k - 1), which is v itself where k = 0.
    const hn::RebindToSigned<D> di;
    hn::Vec<decltype(di)> k[K];
    hn::Vec<D> p[K];
    MOLT_EACH(K) p[i] = hn::Add(v[i], hn::Set(d, 1.0f));
    MOLT_EACH(K) k[i] = hn::ShiftRight<23>(hn::Sub(hn::BitCast(di, p[i]), hn::Set(di, 0x3f400000)));
    MOLT_EACH(K) p[i] = hn::BitCast(d, hn::Sub(hn::Set(di, 0x3f800000), hn::ShiftLeft<23>(k[i])));
    MOLT_EACH(K) v[i] = hn::MulAdd(v[i], p[i], hn::Sub(p[i], hn::Set(d, 1.0f)));
    // log(1 + f) / f, minimax in relative error (2.7e-8).
    MOLT_EACH(K) p[i] = hn::MulAdd(hn::Set(d, 0.0541117524f), v[i], hn::Set(d, -0.120767239f));
    MOLT_EACH(K) p[i] = hn::MulAdd(p[i], v[i], hn::Set(d, 0.149945002f));
    MOLT_EACH(K) p[i] = hn::MulAdd(p[i], v[i], hn::Set(d, -0.168243125f));
    MOLT_EACH(K) p[i] = hn::MulAdd(p[i], v[i], hn::Set(d, 0.199759126f));
    MOLT_EACH(K) p[i] = hn::MulAdd(p[i], v[i], hn::Set(d, -0.249932182f));
    MOLT_EACH(K) p[i] = hn::MulAdd(p[i], v[i], hn::Set(d, 0.333335921f));
    MOLT_EACH(K) p[i] = hn::MulAdd(p[i], v[i], hn::Set(d, -0.500000664f));
    MOLT_EACH(K) p[i] = hn::MulAdd(p[i], v[i], hn::Set(d, 1.0f));
    MOLT_EACH(K) v[i] = hn::Mul(p[i], v[i]);
    MOLT_EACH(K) v[i] = hn::MulAdd(hn::ConvertTo(d, k[i]), hn::Set(d, 0.693147181f), v[i]);
  }
}

/// x = log(1 + e^x), and slope, its derivative sigmoid(x), if kSlope. Above 20 it is x itself with slope 1, as in
/// torch; below -87 (f32) or -700 (f64) both are 0.
template <bool kSlope, int K, class D>
HWY_INLINE void softplus_each(D d, hn::Vec<D> (&x)[K], hn::Vec<D> (&slope)[K]) {
  using T = hn::TFromD<D>;
  const auto limit = hn::Set(d, T(20)), one = hn::Set(d, T(1));
  hn::Vec<D> e[K];
  MOLT_EACH(K) e[i] = at_most(d, T(20), x[i]);
  exp_each(d, e);
  // Zero, where e^x would saturate: steps next to the smallest number make processors slow wherever they lead.
  const auto none = hn::Set(d, T(sizeof(T) == 4 ? -87 : -700));
  MOLT_EACH(K) e[i] = hn::IfThenElse(hn::Lt(x[i], none), hn::Zero(d), e[i]);
  if (kSlope) {
    MOLT_EACH(K) slope[i] = hn::Mul(e[i], reciprocal(d, hn::Add(one, e[i])));
    MOLT_EACH(K) slope[i] = hn::IfThenElse(hn::Gt(x[i], limit), one, slope[i]);
  }
  log1p_each(d, e);
  MOLT_EACH(K) x[i] = hn::IfThenElse(hn::Gt(x[i], limit), x[i], e[i]);
}

/// One vector at a time; e^x saturates above 87 (f32) or 700 (f64).
template <class D>
HWY_INLINE hn::Vec<D> exp_of(D d, hn::Vec<D> x) {
  using T = hn::TFromD<D>;
  hn::Vec<D> v[1] = {at_most(d, T(sizeof(T) == 4 ? 87 : 700), x)};
  exp_each(d, v);
  return v[0];
}
template <class D>
HWY_INLINE hn::Vec<D> sigmoid(D d, hn::Vec<D> x) {
  const hn::Vec<D> v[1] = {x};
  hn::Vec<D> s[1];
  sigmoid_each(d, v, s);
  return s[0];
}

}  // namespace molt::ops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard

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

HWY_BEFORE_NAMESPACE();
namespace molt::ops::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// The first `count` lanes of memory, zeros beyond; touches nothing beyond. count >= Lanes(d) loads a whole vector.
template <class D>
HWY_INLINE hn::Vec<D> load_first(D d, const hn::TFromD<D>* from, int64_t count) {
  if (count >= static_cast<int64_t>(hn::Lanes(d))) return hn::LoadU(d, from);
  return hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(count)), d, from);
}
template <class D>
HWY_INLINE void store_first(D d, hn::Vec<D> v, hn::TFromD<D>* to, int64_t count) {
  if (count >= static_cast<int64_t>(hn::Lanes(d))) return hn::StoreU(v, d, to);
  hn::BlendedStore(v, hn::FirstN(d, static_cast<size_t>(count)), d, to);
}

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

namespace detail {

// p · 2ⁿ for whole n; below the normal range it may stop at 2^-126.
template <class D>
HWY_INLINE hn::Vec<D> times_power_of_two(D d, hn::Vec<D> p, hn::Vec<D> n) {
#if HWY_TARGET == HWY_AVX3
  (void)d;
  return hn::Vec<D>{_mm512_scalef_ps(p.raw, n.raw)};
#else
  const hn::RebindToSigned<D> di;
  const auto bits = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127)));
  return hn::Mul(p, hn::BitCast(d, bits));
#endif
}

}  // namespace detail

/// e^x. f32: relative error below 1e-7 where the result is normal; beyond ±87 it saturates (never infinite, NaN stays).
template <class D>
HWY_INLINE hn::Vec<D> exp_of(D d, hn::Vec<D> x) {
  if constexpr (sizeof(hn::TFromD<D>) == 8) {
    return hn::Exp(d, x);
  } else {
    // x = (n + f) ln 2, |f| <= 1/2; f in two parts, as x log2(e) is rounded. Min and Max in this order keep NaN.
    const auto log2e = hn::Set(d, 1.44269502f), log2e_low = hn::Set(d, 1.92596299e-8f);
    x = hn::Max(hn::Set(d, -87.0f), hn::Min(hn::Set(d, 87.0f), x));
    const auto n = hn::Round(hn::Mul(x, log2e));
    const auto f = hn::MulAdd(x, log2e_low, hn::MulSub(x, log2e, n));
    // 2^f, minimax in relative error (1.9e-9).
    auto p = hn::MulAdd(hn::Set(d, 1.53458120e-4f), f, hn::Set(d, 1.33999314e-3f));
    p = hn::MulAdd(p, f, hn::Set(d, 9.61848896e-3f));
    p = hn::MulAdd(p, f, hn::Set(d, 5.55032878e-2f));
    p = hn::MulAdd(p, f, hn::Set(d, 2.40226469e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, 6.93147206e-1f));
    p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
    return detail::times_power_of_two(d, p, n);
  }
}

/// 1 / (1 + e^-x).
template <class D>
HWY_INLINE hn::Vec<D> sigmoid(D d, hn::Vec<D> x) {
  using T = hn::TFromD<D>;
  // Beyond the clamp the result is below 2e-35 (f32): still positive, and its reciprocal is finite.
  const auto e = exp_of(d, hn::Min(hn::Set(d, T(sizeof(T) == 4 ? 80 : 700)), hn::Neg(x)));
  return reciprocal(d, hn::Add(hn::Set(d, T(1)), e));
}

/// d/dx of x · sigmoid(x), given s = sigmoid(x).
template <class D>
HWY_INLINE hn::Vec<D> silu_slope(D d, hn::Vec<D> x, hn::Vec<D> s) {
  return hn::MulAdd(hn::Mul(x, s), hn::Sub(hn::Set(d, hn::TFromD<D>(1)), s), s);
}

/// log(1 + v) for 0 <= v < 2^30, with small relative error however small v is.
template <class D>
HWY_INLINE hn::Vec<D> log1p_of(D d, hn::Vec<D> v) {
  if constexpr (sizeof(hn::TFromD<D>) == 8) {
    return hn::Log1p(d, v);
  } else {
    // 1 + v = 2^k (1 + f), 1 + f in [3/4, 3/2): f = v 2^-k + (2^-k - 1), which is v itself where k = 0.
    const hn::RebindToSigned<D> di;
    const auto three_quarters = hn::Set(di, 0x3f400000);
    const auto above = hn::Sub(hn::BitCast(di, hn::Add(v, hn::Set(d, 1.0f))), three_quarters);
    const auto k = hn::ShiftRight<23>(above);
    const auto scale = hn::BitCast(d, hn::Sub(hn::Set(di, 0x3f800000), hn::ShiftLeft<23>(k)));
    const auto f = hn::MulAdd(v, scale, hn::Sub(scale, hn::Set(d, 1.0f)));
    // log(1 + f) / f, minimax in relative error (2.7e-8).
    auto p = hn::MulAdd(hn::Set(d, 0.0541117524f), f, hn::Set(d, -0.120767239f));
    p = hn::MulAdd(p, f, hn::Set(d, 0.149945002f));
    p = hn::MulAdd(p, f, hn::Set(d, -0.168243125f));
    p = hn::MulAdd(p, f, hn::Set(d, 0.199759126f));
    p = hn::MulAdd(p, f, hn::Set(d, -0.249932182f));
    p = hn::MulAdd(p, f, hn::Set(d, 0.333335921f));
    p = hn::MulAdd(p, f, hn::Set(d, -0.500000664f));
    p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
    return hn::MulAdd(hn::ConvertTo(d, k), hn::Set(d, 0.693147181f), hn::Mul(p, f));
  }
}

/// log(1 + e^x), and its slope sigmoid(x). Above 20 it is x itself with slope 1, as in torch.
template <class D>
struct Softplus {
  hn::Vec<D> value, slope;
};
template <class D>
HWY_INLINE Softplus<D> softplus_and_slope(D d, hn::Vec<D> x) {
  using T = hn::TFromD<D>;
  const auto limit = hn::Set(d, T(20)), one = hn::Set(d, T(1));
  const auto e = exp_of(d, hn::Min(limit, x));
  const auto linear = hn::Gt(x, limit);
  return {hn::IfThenElse(linear, x, log1p_of(d, e)),
          hn::IfThenElse(linear, one, hn::Mul(e, reciprocal(d, hn::Add(one, e))))};
}

}  // namespace molt::ops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard

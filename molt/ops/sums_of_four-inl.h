// Sums over the lanes of four vectors at once: fewer shuffles than four sums one by one.
#if defined(MOLT_OPS_SUMS_OF_FOUR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MOLT_OPS_SUMS_OF_FOUR_INL_H_
#undef MOLT_OPS_SUMS_OF_FOUR_INL_H_
#else
#define MOLT_OPS_SUMS_OF_FOUR_INL_H_
#endif

#include "molt/ops/scan_common-inl.h"

HWY_BEFORE_NAMESPACE();
namespace molt::ops::HWY_NAMESPACE {
namespace {

/// Whether sums over lanes go through sums_of_four: vectors of at least four f32.
template <class T>
constexpr bool kFourAtOnce = sizeof(T) == 4 && HWY_TARGET != HWY_SCALAR;

/// One vector whose every 128 bits hold the sums of the four vectors' corresponding 128 bits.
template <class D>
HWY_INLINE hn::Vec<D> sums_of_four(D d, hn::Vec<D> v0, hn::Vec<D> v1, hn::Vec<D> v2, hn::Vec<D> v3) {
#if HWY_TARGET != HWY_SCALAR
  const hn::RepartitionToWide<D> wide;
  const auto a = hn::BitCast(wide, hn::Add(hn::InterleaveLower(d, v0, v1), hn::InterleaveUpper(d, v0, v1)));
  const auto b = hn::BitCast(wide, hn::Add(hn::InterleaveLower(d, v2, v3), hn::InterleaveUpper(d, v2, v3)));
  return hn::Add(hn::BitCast(d, hn::InterleaveLower(wide, a, b)), hn::BitCast(d, hn::InterleaveUpper(wide, a, b)));
#else
  (void)d, (void)v1, (void)v2, (void)v3;
  return v0;
#endif
}

/// Adds to four numbers the sums a vector of sums_of_four holds in parts of 128 bits.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void add_four(D d, const T* HWY_RESTRICT from, T* HWY_RESTRICT to) {
  const hn::CappedTag<T, 4> four;
  auto total = hn::LoadU(four, to);
  for (int64_t i = 0; i < static_cast<int64_t>(hn::Lanes(d)); i += 4) total = hn::Add(total, hn::LoadU(four, from + i));
  hn::StoreU(total, four, to);
}

}  // namespace
}  // namespace molt::ops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard

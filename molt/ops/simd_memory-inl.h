// The first lanes of a vector from and to memory, f32, f64 and bf16, for kernels. Include after hwy/highway.h, inside
// no namespace; compiled once per instruction set.
#if defined(MOLT_OPS_SIMD_MEMORY_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MOLT_OPS_SIMD_MEMORY_INL_H_
#undef MOLT_OPS_SIMD_MEMORY_INL_H_
#else
#define MOLT_OPS_SIMD_MEMORY_INL_H_
#endif

#include <hwy/highway.h>

#include "molt/device/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace molt::ops::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Portable vectors, on processors that Highway has no target for: compiled to one lane or, by newer compilers, to
/// four that are computed one by one, without fused multiply-add.
constexpr bool kEmulated = HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128;

/// Whether masked loads and stores of a type leave memory beyond the mask alone. Elsewhere Highway loads whole vectors,
/// and stores what it has loaded beside the new lanes: past the end of a tensor, and over what another thread writes.
template <class T>
constexpr bool kMasksHold = !kEmulated && (HWY_TARGET == HWY_AVX2 ? sizeof(T) >= 4 : HWY_TARGET == HWY_AVX3);

/// The first `count` lanes of memory, zeros beyond; touches nothing beyond. count >= Lanes(d) loads a whole vector.
template <class D>
HWY_INLINE hn::Vec<D> load_first(D d, const hn::TFromD<D>* from, int64_t count) {
  using T = hn::TFromD<D>;
  if (count >= static_cast<int64_t>(hn::Lanes(d))) return hn::LoadU(d, from);
  if constexpr (kMasksHold<T>) {
    return hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(count)), d, from);
  } else {
    HWY_ALIGN T lanes[hn::MaxLanes(D())] = {};
    for (int64_t i = 0; i < count; ++i) lanes[i] = from[i];
    return hn::Load(d, lanes);
  }
}
template <class D>
HWY_INLINE void store_first(D d, hn::Vec<D> v, hn::TFromD<D>* to, int64_t count) {
  using T = hn::TFromD<D>;
  if (count >= static_cast<int64_t>(hn::Lanes(d))) return hn::StoreU(v, d, to);
  if constexpr (kMasksHold<T>) {
    hn::BlendedStore(v, hn::FirstN(d, static_cast<size_t>(count)), d, to);
  } else {
    HWY_ALIGN T lanes[hn::MaxLanes(D())];
    hn::Store(v, d, lanes);
    for (int64_t i = 0; i < count; ++i) to[i] = lanes[i];
  }
}

/// The same for numbers kept in bf16, as f32 in registers; stores round to nearest, ties to even, and keep NaN.
template <class D>
HWY_INLINE hn::Vec<D> load_first(D d, const bf16* from, int64_t count) {
  const hn::Rebind<uint16_t, D> halves;
  const hn::RebindToUnsigned<D> words;
  const auto v = load_first(halves, reinterpret_cast<const uint16_t*>(from), count);
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(words, v)));
}
template <class D>
HWY_INLINE void store_first(D, hn::Vec<D> v, bf16* to, int64_t count) {
  const hn::Rebind<uint16_t, D> halves;
  const hn::RebindToUnsigned<D> words;
  const auto u = hn::BitCast(words, v);
  const auto lowest = hn::And(hn::ShiftRight<16>(u), hn::Set(words, 1));
  const auto rounded = hn::Add(u, hn::Add(lowest, hn::Set(words, 0x7fff)));
  const auto quiet = hn::Or(u, hn::Set(words, 0x400000));
  const auto out =
      hn::TruncateTo(halves, hn::ShiftRight<16>(hn::IfThenElse(hn::RebindMask(words, hn::IsNaN(v)), quiet, rounded)));
  store_first(halves, out, reinterpret_cast<uint16_t*>(to), count);
}

}  // namespace molt::ops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard

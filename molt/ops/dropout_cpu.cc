// CPU kernels of dropout.
#include "molt/ops/dropout.h"

#include <cmath>
#include <type_traits>

#include "molt/device/cpu/parallel.h"

#include "molt/ops/simd.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "molt/ops/dropout_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace molt::ops::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kGroup = 64;  // columns that share 16 Philox blocks of four words

using D32 = hn::CappedTag<uint32_t, 16>;
using V32 = hn::Vec<D32>;

/// The high and low halves of the 64-bit products of 32-bit lanes with one factor.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void multiply(D d, V a, uint32_t factor, V& high, V& low) {
  if constexpr (hn::MaxLanes(D()) == 1) {  // a machine without vectors
    const uint64_t product = uint64_t{hn::GetLane(a)} * factor;
    high = hn::Set(d, static_cast<uint32_t>(product >> 32)), low = hn::Set(d, static_cast<uint32_t>(product));
  } else {
    const hn::Repartition<uint64_t, D> d64;
    const auto f = hn::Set(d, factor);
    const auto even = hn::MulEven(a, f), odd = hn::MulEven(hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(d64, a))), f);
    high = hn::OddEven(hn::BitCast(d, odd), hn::BitCast(d, hn::ShiftRight<32>(even)));
    low = hn::OddEven(hn::BitCast(d, hn::ShiftLeft<32>(odd)), hn::BitCast(d, even));
  }
}

/// philox() of base/rng.h for the blocks of one group, side by side.
HWY_INLINE void draw_group(uint32_t group, uint64_t row, uint64_t key, uint32_t* bits) {
  const D32 d;
  const size_t lanes = hn::Lanes(d);
  for (size_t b = 0; b < 16; b += lanes) {
    V32 c0 = hn::Iota(d, group * 16 + static_cast<uint32_t>(b)), c1 = hn::Set(d, static_cast<uint32_t>(row));
    V32 c2 = hn::Set(d, static_cast<uint32_t>(row >> 32)), c3 = hn::Zero(d);
    uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
      V32 high0, low0, high1, low1;
      multiply(d, c0, 0xD2511F53u, high0, low0);
      multiply(d, c2, 0xCD9E8D57u, high1, low1);
      c0 = hn::Xor(hn::Xor(high1, c1), hn::Set(d, k0));
      c2 = hn::Xor(hn::Xor(high0, c3), hn::Set(d, k1));
      c1 = low1, c3 = low0;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    hn::StoreU(c0, d, bits + b);
    hn::StoreU(c1, d, bits + 16 + b);
    hn::StoreU(c2, d, bits + 32 + b);
    hn::StoreU(c3, d, bits + 48 + b);
  }
}

template <bool kAccumulate, class T, class Compute>
HWY_INLINE void apply_group(const T* HWY_RESTRICT in, const uint32_t* HWY_RESTRICT bits, uint32_t threshold,
                            Compute scale, T* HWY_RESTRICT out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const Compute scaled = static_cast<Compute>(in[i]) * scale, value = bits[i] >= threshold ? scaled : Compute(0);
    out[i] = static_cast<T>(kAccumulate ? static_cast<Compute>(out[i]) + value : value);
  }
}

template <bool kAccumulate, class T, class Compute>
void apply_rows(const Tensor& x, const DropoutMask& mask, const Tensor& y) {
  const int64_t n = x.cols();
  const uint32_t threshold = static_cast<uint32_t>(std::min(mask.p * 0x1p32, 0x1p32 - 1));
  const Compute scale = static_cast<Compute>(1 / (1 - mask.p));
  parallel_for(x.rows(), std::max<int64_t>(1, (1 << 13) / std::max<int64_t>(n, 1)), [&](int64_t row) {
    const T* in = x.data<T>() + row * x.ld();
    T* out = y.data<T>() + row * y.ld();
    alignas(64) uint32_t bits[kGroup];
    for (int64_t begin = 0; begin < n; begin += kGroup) {
      draw_group(static_cast<uint32_t>(begin / kGroup), static_cast<uint64_t>(mask.first_row + row), mask.key, bits);
      if (begin + kGroup <= n) {
        apply_group<kAccumulate>(in + begin, bits, threshold, scale, out + begin, kGroup);
      } else {
        apply_group<kAccumulate>(in + begin, bits, threshold, scale, out + begin, n - begin);
      }
    }
  });
}

template <class T, class Compute>
void apply_type(const Tensor& x, const DropoutMask& mask, const GradOut& y) {
  y.accumulate ? apply_rows<true, T, Compute>(x, mask, y.tensor) : apply_rows<false, T, Compute>(x, mask, y.tensor);
}

void apply(const Tensor& x, const DropoutMask& mask, const GradOut& y) {
  MOLT_CHECK(x.shape() == y.tensor.shape() && x.dtype() == y.tensor.dtype(), "dropout: from ", shape_str(x.shape()),
             " ", dtype_name(x.dtype()), " to ", shape_str(y.tensor.shape()), " ", dtype_name(y.tensor.dtype()));
  if (x.dtype() == Dtype::kBf16) return apply_type<bf16, float>(x, mask, y);
  with_compute_type(x.dtype(), [&](auto t) { apply_type<decltype(t), decltype(t)>(x, mask, y); });
}

}  // namespace
}  // namespace molt::ops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace molt::ops {
namespace {
HWY_EXPORT(apply);
}  // namespace
MOLT_KERNELS(dropout_kernels, Device::kCpu, {MOLT_BEST_TARGET(apply)});
}  // namespace molt::ops
#endif

// Gradients of B and C are sums over channels: over the lanes of a vector, the blocks of a thread, and the threads, in
// this order, so that they repeat bit for bit.
#if defined(MOLT_OPS_SCAN_SUMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MOLT_OPS_SCAN_SUMS_INL_H_
#undef MOLT_OPS_SCAN_SUMS_INL_H_
#else
#define MOLT_OPS_SCAN_SUMS_INL_H_
#endif

#include "molt/device/cpu/parallel.h"
#include "molt/ops/sums_of_four-inl.h"

HWY_BEFORE_NAMESPACE();
namespace molt::ops::HWY_NAMESPACE {
namespace {

/// Sums over channels, one set per thread, added up in the order of threads: (T, padded N) twice, and (T).
template <class T>
struct TokenSums {
  Tensor owner;
  T *dB, *dC_of_p, *g_u;  // Σ r u, Σ g p, Σ g u

  explicit TokenSums(const Sizes<T>& sizes)
      : owner(Tensor::zeros({sizes.tokens * (2 * sizes.padded_states + 1)}, kDtypeOf<T>)),
        dB(owner.data<T>()),
        dC_of_p(dB + sizes.tokens * sizes.padded_states),
        g_u(dC_of_p + sizes.tokens * sizes.padded_states) {}
};

/// The same for four such vectors of 512 bits, each two apart.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE void add_sixteen(D d, const T* HWY_RESTRICT from, T* HWY_RESTRICT to) {
#if HWY_TARGET == HWY_AVX3
  (void)d;
  const __m512 v0 = _mm512_loadu_ps(from), v1 = _mm512_loadu_ps(from + 32), v2 = _mm512_loadu_ps(from + 64),
               v3 = _mm512_loadu_ps(from + 96);
  const __m512 a = _mm512_add_ps(_mm512_shuffle_f32x4(v0, v1, 0x88), _mm512_shuffle_f32x4(v0, v1, 0xdd));
  const __m512 b = _mm512_add_ps(_mm512_shuffle_f32x4(v2, v3, 0x88), _mm512_shuffle_f32x4(v2, v3, 0xdd));
  const __m512 sum = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), sum));
#else
  for (int64_t i = 0; i < 16; i += kGroup) add_four(d, from + i / kGroup * 2 * hn::Lanes(d), to + i);
#endif
}

/// Adds what a pair of blocks contributes for a chunk: g and u by block, token and lane; reduced by token, group of
/// states, B or C, and lane, as sums_of_four makes them.
template <class T>
HWY_NOINLINE void sum_tokens(const Sizes<T>& sizes, const T* HWY_RESTRICT g, const T* HWY_RESTRICT u,
                             const T* HWY_RESTRICT reduced, int64_t first, int64_t rows, const TokenSums<T>& sums) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), states = sizes.padded_states;
  T *HWY_RESTRICT g_u = sums.g_u + first, *HWY_RESTRICT dB = sums.dB + first * states;
  T* HWY_RESTRICT dC = sums.dC_of_p + first * states;
  for (int64_t t = 0; t < rows; ++t) {
    auto sum = hn::Zero(d);
    MOLT_UNROLL(2)
    for (int64_t w = 0; w < kPair; ++w) {
      const int64_t at = (w * kChunk + t) * lanes;
      sum = hn::MulAdd(hn::LoadU(d, g + at), hn::LoadU(d, u + at), sum);
    }
    g_u[t] += hn::GetLane(hn::SumOfLanes(d, sum));
  }
  if constexpr (kFourAtOnce<T>) {
    int64_t n = 0;
    if (sizeof(T) * hn::Lanes(d) == 64) {
      for (; n + 16 <= states; n += 16) {
        for (int64_t t = 0; t < rows; ++t) {
          const T* from = reduced + (t * states + n) * lanes / 2;
          add_sixteen(d, from, dB + t * states + n);
          add_sixteen(d, from + lanes, dC + t * states + n);
        }
      }
    }
    for (; n < states; n += kGroup) {
      for (int64_t t = 0; t < rows; ++t) {
        const T* from = reduced + (t * states + n) * lanes / 2;
        add_four(d, from, dB + t * states + n);
        add_four(d, from + lanes, dC + t * states + n);
      }
    }
  }
}

/// The sums of all threads into the gradients of B and C.
template <class T>
void combine_token_sums(const Sizes<T>& sizes, const TokenRows<T>& B, const std::vector<TokenSums<T>>& sums,
                        const ScanGrads& grads) {
  parallel_for(sizes.tokens, 256, [&](int64_t t) {
    T g_u = 0;
    for (const auto& part : sums) g_u += part.g_u[t];
    for (int64_t n = 0; n < sizes.states; ++n) {
      T db = 0, dc = 0;
      for (const auto& part : sums) {
        db += part.dB[t * sizes.padded_states + n];
        dc += part.dC_of_p[t * sizes.padded_states + n];
      }
      if (grads.dB.tensor.defined()) {
        T& to = grads.dB.tensor.template data<T>()[t * grads.dB.tensor.ld() + n];
        to = db + (grads.dB.accumulate ? to : T(0));
      }
      if (grads.dC.tensor.defined()) {
        T& to = grads.dC.tensor.template data<T>()[t * grads.dC.tensor.ld() + n];
        to = dc + B.row(t)[n] * g_u + (grads.dC.accumulate ? to : T(0));
      }
    }
  });
}

}  // namespace
}  // namespace molt::ops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard

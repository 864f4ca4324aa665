// The forward pass of the selective scan on the CPU. One block of channels at a time walks all tokens with its states
// in registers.
#if defined(MOLT_OPS_SCAN_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MOLT_OPS_SCAN_FORWARD_INL_H_
#undef MOLT_OPS_SCAN_FORWARD_INL_H_
#else
#define MOLT_OPS_SCAN_FORWARD_INL_H_
#endif

#include <hwy/cache_control.h>

#include "molt/device/cpu/parallel.h"
#include "molt/ops/scan_common-inl.h"

HWY_BEFORE_NAMESPACE();
namespace molt::ops::HWY_NAMESPACE {
namespace {

/// One thread's share of the forward pass: some blocks, all tokens. S: the type in which z and y are kept.
template <class T, class S>
class Forward {
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;

 public:
  Forward(const ScanTensors& in, const Sizes<T>& sizes, const TokenRows<T>& B, const TokenRows<T>& C, const Tensor& y,
          const Tensor& state, T* saved)
      : in_(in),
        sizes_(sizes),
        B_(B),
        C_(C),
        y_(y),
        state_(state),
        saved_(saved),
        scratch_(in.x.like({2 * sizes.block_states() + 4 * kChunk * sizes.lanes})),
        rates_(scratch_.data<T>()),
        h_(rates_ + sizes.block_states()),
        dt_(h_ + sizes.block_states()),
        u_(dt_ + kChunk * sizes.lanes),
        out_(u_ + kChunk * sizes.lanes),
        gate_(out_ + kChunk * sizes.lanes) {}

  void block(int64_t block) {
    load_rates(sizes_, block, in_.A_log, rates_);
    const int64_t all = sizes_.channels * sizes_.states;
    for (int64_t s = 0; s < in_.segments->count(); ++s) {
      if (in_.h0.defined()) {
        load_block(sizes_, block, in_.h0.data<T>() + s * all, h_);
      } else {
        std::fill_n(h_, sizes_.block_states(), T(0));
      }
      int64_t chunk = sizes_.first_chunk[static_cast<size_t>(s)];
      for (int64_t t = in_.segments->begin(s); t < in_.segments->end(s); t += kChunk, ++chunk) {
        if (saved_) save(saved_ + sizes_.saved_at(chunk, block));
        this->chunk(block, t, std::min(kChunk, in_.segments->end(s) - t));
      }
      if (state_.defined()) store_block(sizes_, block, h_, false, state_.data<T>() + s * all);
    }
  }

 private:
  // Past the caches: nobody reads it before the backward pass, when caches have long held other things.
  void save(T* to) const {
    const D d;
    for (int64_t i = 0; i < sizes_.block_states(); i += static_cast<int64_t>(hn::Lanes(d)))
      hn::Stream(hn::LoadU(d, h_ + i), d, to + i);
  }

  void chunk(int64_t block, int64_t first, int64_t rows) {
    const D d;
    const int64_t live = sizes_.live(block), at = sizes_.first_channel(block);
    RowPrefetch next;
    if (first + rows + kChunk <= sizes_.tokens) {
      for (const Tensor* t : {&in_.x, &in_.dt})
        next.template add<T>(*t, first + rows, kChunk, at, sizes_.vector_bytes());
      for (const Tensor* t : {&in_.z, &y_})
        next.template add<S>(*t, first + rows, kChunk, at, sizes_.lanes * static_cast<int64_t>(sizeof(S)));
    }
    enter(first, rows, at, live);
    int64_t n = 0;
    for (; n + 16 <= sizes_.padded_states; n += 16) states<16>(n, first, rows, next);
    for (; n < sizes_.padded_states; n += kGroup) states<kGroup>(n, first, rows, next);
    S* y = y_.data<S>() + first * y_.ld() + at;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), ld = y_.ld();
    const T *out = out_, *gate = gate_;
    for (int64_t t = 0; t < rows; ++t, y += ld, out += lanes, gate += lanes)
      store_first(d, hn::Mul(hn::LoadU(d, out), hn::LoadU(d, gate)), y, live);
  }

  // What has no state: Δ, Δx, D x and silu(z), for K tokens at once.
  template <int K>
  HWY_INLINE void enter_tokens(int64_t t, int64_t live, V skip, const T* HWY_RESTRICT x, int64_t ld_x,
                               const T* HWY_RESTRICT dt, int64_t ld_dt, const S* HWY_RESTRICT z, int64_t ld_z) {
    const D d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), to = t * lanes;
    T *HWY_RESTRICT dts = dt_ + to, *HWY_RESTRICT us = u_ + to, *HWY_RESTRICT outs = out_ + to;
    T* HWY_RESTRICT gates = gate_ + to;
    V step[K], unused[K], input[K], gate[K];
    MOLT_EACH(K) step[i] = load_first(d, dt + (t + i) * ld_dt, live);
    softplus_each<false>(d, step, unused);
    MOLT_EACH(K) {
      input[i] = load_first(d, x + (t + i) * ld_x, live);
      hn::StoreU(step[i], d, dts + i * lanes);
      hn::StoreU(hn::Mul(step[i], input[i]), d, us + i * lanes);
      hn::StoreU(hn::Mul(skip, input[i]), d, outs + i * lanes);
    }
    if (!z) {
      MOLT_EACH(K) hn::StoreU(hn::Set(d, T(1)), d, gates + i * lanes);
      return;
    }
    MOLT_EACH(K) input[i] = load_first(d, z + (t + i) * ld_z, live);
    sigmoid_each(d, input, gate);
    MOLT_EACH(K) hn::StoreU(hn::Mul(input[i], gate[i]), d, gates + i * lanes);
  }

  HWY_NOINLINE void enter(int64_t first, int64_t rows, int64_t at, int64_t live) {
    const D d;
    const V skip = in_.D.defined() ? load_first(d, in_.D.data<T>() + at, live) : hn::Zero(d);
    const int64_t ld_x = in_.x.ld(), ld_dt = in_.dt.ld(), ld_z = in_.z.ld();
    const T* x = in_.x.data<T>() + first * ld_x + at;
    const T* dt = in_.dt.data<T>() + first * ld_dt + at;
    const S* z = in_.z.defined() ? in_.z.data<S>() + first * ld_z + at : nullptr;
    int64_t t = 0;
    if (live == static_cast<int64_t>(hn::Lanes(d))) {
      for (; t + 4 <= rows; t += 4) enter_tokens<4>(t, hn::Lanes(d), skip, x, ld_x, dt, ld_dt, z, ld_z);
    }
    for (; t < rows; ++t) enter_tokens<1>(t, live, skip, x, ld_x, dt, ld_dt, z, ld_z);
  }

  // h_t = a h_{t-1} + u_t B_t for states [n, n + kCount), and Σ C_t h_t added to what y_t will be.
  template <int64_t kCount>
  HWY_NOINLINE void states(int64_t n, int64_t first, int64_t rows, RowPrefetch& next) {
    const D d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), ld_b = B_.ld, ld_c = C_.ld;
    // Members are copied: stores of vectors may alias anything, and would have them read again for every token.
    const T* HWY_RESTRICT rates = rates_ + n * lanes;
    const T* HWY_RESTRICT dts = dt_;
    const T* HWY_RESTRICT us = u_;
    const T* HWY_RESTRICT b = B_.row(first) + n;
    const T* HWY_RESTRICT c = C_.row(first) + n;
    T* HWY_RESTRICT outs = out_;
    V h[kCount];
    MOLT_UNROLL(16)
    for (int64_t i = 0; i < kCount; ++i) h[i] = hn::LoadU(d, h_ + (n + i) * lanes);
    for (int64_t t = 0; t < rows; ++t, dts += lanes, us += lanes, outs += lanes, b += ld_b, c += ld_c) {
      const V dt = hn::LoadU(d, dts), u = hn::LoadU(d, us);
      V out = hn::LoadU(d, outs), more = hn::Zero(d);
      MOLT_UNROLL(16)
      for (int64_t i = 0; i < kCount; ++i) {
        h[i] = hn::MulAdd(decay(d, dt, hn::LoadU(d, rates + i * lanes)), h[i], hn::Mul(u, hn::Set(d, b[i])));
        const V scale = hn::Set(d, c[i]);
        if (i % 2) {
          more = hn::MulAdd(h[i], scale, more);
        } else {
          out = hn::MulAdd(h[i], scale, out);
        }
      }
      hn::StoreU(hn::Add(out, more), d, outs);
      next.step();
    }
    MOLT_UNROLL(16)
    for (int64_t i = 0; i < kCount; ++i) hn::StoreU(h[i], d, h_ + (n + i) * lanes);
  }

  const ScanTensors& in_;
  const Sizes<T>& sizes_;
  const TokenRows<T>&B_, &C_;
  const Tensor &y_, &state_;
  T* saved_;
  Tensor scratch_;
  T *rates_, *h_;              // [state][lane]
  T *dt_, *u_, *out_, *gate_;  // [token][lane]: Δ, Δ·x, y before the gate, silu(z)
};

template <class T, class S>
void forward_typed(const ScanTensors& in, const Tensor& y, const Tensor& state, Tensor* saved) {
  const Sizes<T> sizes(in);
  const TokenRows<T> B(in.B, sizes.padded_states), C(in.C, sizes.padded_states);
  T* saved_data = nullptr;
  if (saved) {
    *saved = in.x.like({sizes.saved_at(sizes.first_chunk.back(), 0)});
    saved_data = saved->template data<T>();
  }
  const int64_t blocks = (sizes.channels + sizes.lanes - 1) / sizes.lanes;
  const int64_t work = std::max<int64_t>(sizes.tokens, 1) * sizes.block_states();
  parallel_ranges(blocks, kGrain / work + 1, [&](int64_t begin, int64_t end) {
    Forward<T, S> share(in, sizes, B, C, y, state, saved_data);
    for (int64_t block = begin; block < end; ++block) share.block(block);
    if (saved_data) hwy::FlushStream();
  });
}

}  // namespace
}  // namespace molt::ops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard

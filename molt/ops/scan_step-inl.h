// One step of the selective scan on the CPU: segments of a single token, as in decoding. Here states lie across the
// lanes of a vector, as they do in memory; what a whole segment repays, turning them around, costs several times the
// step itself.
#if defined(MOLT_OPS_SCAN_STEP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MOLT_OPS_SCAN_STEP_INL_H_
#undef MOLT_OPS_SCAN_STEP_INL_H_
#else
#define MOLT_OPS_SCAN_STEP_INL_H_
#endif

#include "molt/device/cpu/parallel.h"
#include "molt/ops/scan_common-inl.h"

HWY_BEFORE_NAMESPACE();
namespace molt::ops::HWY_NAMESPACE {
namespace {

/// Some channels of all segments, each of one token.
template <class T, class S>
class Step {
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;

 public:
  /// Channels that are treated together: their rates stay in the first-level cache, and the state of a segment comes
  /// and goes as one piece of memory.
  static constexpr int64_t kChannels = 256;

  Step(const ScanTensors& in, const Tensor& y, const Tensor& state)
      : in_(in),
        y_(y),
        state_(state),
        states_(in.A_log.dim(1)),
        lanes_(static_cast<int64_t>(hn::Lanes(D()))),
        padded_((states_ + lanes_ - 1) / lanes_ * lanes_),
        scratch_(in.x.like({kChannels * padded_ + 3 * lanes_})),
        rates_(scratch_.data<T>()),
        dt_(rates_ + kChannels * padded_),
        u_(dt_ + lanes_),
        out_(u_ + lanes_) {}

  void channels(int64_t begin, int64_t end) {
    load_rates(begin, end);
    for (int64_t s = 0; s < in_.segments->count(); ++s)
      for (int64_t e = begin; e < end; e += lanes_)
        block(s, e, std::min(lanes_, end - e), rates_ + (e - begin) * padded_);
  }

 private:
  // -exp(A_log) · kRateUnit; lanes beyond the states hold exp(0), and h stays zero there.
  void load_rates(int64_t begin, int64_t end) {
    const D d;
    for (int64_t e = begin; e < end; ++e)
      for (int64_t n = 0; n < padded_; n += lanes_) {
        V v[1] = {at_most(d, T(80), load_first(d, in_.A_log.template data<T>() + e * states_ + n, states_ - n))};
        exp_each(d, v);
        hn::StoreU(hn::Mul(v[0], hn::Set(d, -kRateUnit<T>)), d, rates_ + (e - begin) * padded_ + n);
      }
  }

  // Channels [e, e + live) of segment s.
  void block(int64_t s, int64_t e, int64_t live, const T* HWY_RESTRICT rates) {
    const D d;
    const int64_t t = in_.segments->begin(s), at = (s * in_.x.dim(1) + e) * states_, states = states_, lanes = lanes_;
    V step[1] = {load_first(d, in_.dt.template data<T>() + t * in_.dt.ld() + e, live)}, unused[1];
    softplus_each<false>(d, step, unused);
    const V x = load_first(d, in_.x.template data<T>() + t * in_.x.ld() + e, live);
    hn::StoreU(step[0], d, dt_);
    hn::StoreU(hn::Mul(step[0], x), d, u_);
    const T *HWY_RESTRICT dts = dt_, *HWY_RESTRICT us = u_;
    const T* HWY_RESTRICT b = in_.B.template data<T>() + t * in_.B.ld();
    const T* HWY_RESTRICT c = in_.C.template data<T>() + t * in_.C.ld();
    const T* HWY_RESTRICT from = in_.h0.defined() ? in_.h0.template data<T>() + at : nullptr;
    T* HWY_RESTRICT to = state_.defined() ? state_.template data<T>() + at : nullptr;
    T* HWY_RESTRICT outs = out_;
    for (int64_t i = 0; i < live; ++i) {
      V sum = hn::Zero(d);
      for (int64_t n = 0; n < states; n += lanes) {
        const int64_t count = states - n;
        const V input = hn::Mul(hn::Set(d, us[i]), load_first(d, b + n, count));
        V h = input;
        if (from) {
          const V a = decay(d, hn::Set(d, dts[i]), hn::LoadU(d, rates + n));
          h = hn::MulAdd(a, load_first(d, from + n, count), input);
        }
        if (to) store_first(d, h, to + n, count);
        sum = hn::MulAdd(h, load_first(d, c + n, count), sum);
      }
      outs[i] = hn::GetLane(hn::SumOfLanes(d, sum));
      rates += padded_;
      if (from) from += states;
      if (to) to += states;
    }
    V out = load_first(d, outs, live);
    if (in_.D.defined()) out = hn::MulAdd(load_first(d, in_.D.template data<T>() + e, live), x, out);
    if (in_.z.defined()) {
      V z[1] = {load_first(d, in_.z.template data<S>() + t * in_.z.ld() + e, live)}, gate[1];
      sigmoid_each(d, z, gate);
      out = hn::Mul(out, hn::Mul(z[0], gate[0]));
    }
    store_first(d, out, y_.template data<S>() + t * y_.ld() + e, live);
  }

  const ScanTensors& in_;
  const Tensor &y_, &state_;
  int64_t states_, lanes_, padded_;
  Tensor scratch_;
  T* rates_;           // [channel][state]
  T *dt_, *u_, *out_;  // [lane]: Δ, Δ·x, Σ C h
};

/// Whether every segment is one token.
inline bool single_tokens(const ScanTensors& in) {
  for (int64_t s = 0; s < in.segments->count(); ++s)
    if (in.segments->length(s) != 1) return false;
  return true;
}

template <class T, class S>
void step_typed(const ScanTensors& in, const Tensor& y, const Tensor& state) {
  constexpr int64_t kChannels = Step<T, S>::kChannels;
  const int64_t width = in.x.dim(1), groups = (width + kChannels - 1) / kChannels;
  // A state takes several times as long as an element of what kGrain was measured on: two exponentials, three passes.
  constexpr int64_t kCost = 8;
  const int64_t work = kCost * std::max<int64_t>(in.x.dim(0), 1) * kChannels * in.A_log.dim(1);
  parallel_ranges(groups, kGrain / work + 1, [&](int64_t begin, int64_t end) {
    Step<T, S> share(in, y, state);
    for (int64_t g = begin; g < end; ++g) share.channels(g * kChannels, std::min((g + 1) * kChannels, width));
  });
}

}  // namespace
}  // namespace molt::ops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard

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
#include "molt/ops/sums_of_four-inl.h"

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
        scratch_(in.x.like({kChannels * padded_ + 4 * lanes_})),
        rates_(scratch_.data<T>()),
        dt_(rates_ + kChannels * padded_),
        u_(dt_ + lanes_),
        out_(u_ + lanes_),
        parts_(out_ + lanes_) {}

  void channels(int64_t begin, int64_t end) {
    load_rates(begin, end);
    for (int64_t s = 0; s < in_.segments->count(); ++s)
      for (int64_t e = begin; e < end; e += lanes_)
        block(s, e, std::min(lanes_, end - e), rates_ + (e - begin) * padded_);
  }

 private:
  // -exp(A_log) · kRateUnit; lanes beyond the states hold exp(0), and h stays zero there. The first segment's states
  // come to the cache meanwhile.
  void load_rates(int64_t begin, int64_t end) {
    const D d;
    const T* const from = in_.A_log.template data<T>();
    const States first = states_of(0, 0);
    for (int64_t e = begin; e < end; ++e) {
      for (int64_t n = 0; n < padded_; n += lanes_) {
        V v[1] = {at_most(d, T(80), load_first(d, from + e * states_ + n, states_ - n))};
        exp_each(d, v);
        hn::StoreU(hn::Mul(v[0], hn::Set(d, -kRateUnit<T>)), d, rates_ + (e - begin) * padded_ + n);
      }
      first.fetch(e * states_, states_);
    }
  }

  /// Where states come from and go to; null: zeros, and not wanted.
  struct States {
    const T* from;
    T* to;

    /// To the cache: a segment's states for some channels are too little for the hardware to see where they go on.
    HWY_INLINE void fetch(int64_t at, int64_t count) const {
      constexpr int64_t kLine = 64 / sizeof(T);
      for (int64_t n = at; n < at + count; n += kLine) {
        if (from) __builtin_prefetch(from + n, 0, 3);
        if (to) __builtin_prefetch(to + n, 1, 3);
      }
    }
  };
  States states_of(int64_t s, int64_t e) const {
    const int64_t at = (s * in_.x.dim(1) + e) * states_;
    return {in_.h0.defined() ? in_.h0.template data<T>() + at : nullptr,
            state_.defined() ? state_.template data<T>() + at : nullptr};
  }

  /// What the states of some channels take in and give out.
  struct Inputs {
    const T *dt, *u, *rates;  // by channel
    const T *b, *c;           // by state
    States at, next;          // next: of the segment that follows, fetched ahead
  };

  /// Channel i: h to memory; Σ C h in parts by lane.
  HWY_INLINE V advance(const Inputs& in, int64_t i) const {
    const D d;
    const int64_t states = states_, lanes = static_cast<int64_t>(hn::Lanes(d));
    const V dt = hn::Set(d, in.dt[i]), u = hn::Set(d, in.u[i]);
    in.next.fetch(i * states, states);
    V sum = hn::Zero(d);
    for (int64_t n = 0; n < states; n += lanes) {
      const int64_t count = states - n;
      V h = hn::Mul(u, load_first(d, in.b + n, count));
      if (in.at.from)
        h = hn::MulAdd(decay(d, dt, hn::LoadU(d, in.rates + i * padded_ + n)),
                       load_first(d, in.at.from + i * states + n, count), h);
      if (in.at.to) store_first(d, h, in.at.to + i * states + n, count);
      sum = hn::MulAdd(h, load_first(d, in.c + n, count), sum);
    }
    return sum;
  }

  // Channels [e, e + live) of segment s.
  void block(int64_t s, int64_t e, int64_t live, const T* rates) {
    const D d;
    const int64_t t = in_.segments->begin(s);
    V step[1] = {load_first(d, in_.dt.template data<T>() + t * in_.dt.ld() + e, live)}, unused[1];
    softplus_each<false>(d, step, unused);
    const V x = load_first(d, in_.x.template data<T>() + t * in_.x.ld() + e, live);
    hn::StoreU(step[0], d, dt_);
    hn::StoreU(hn::Mul(step[0], x), d, u_);
    const bool more = s + 1 < in_.segments->count();
    const Inputs in{dt_,
                    u_,
                    rates,
                    in_.B.template data<T>() + t * in_.B.ld(),
                    in_.C.template data<T>() + t * in_.C.ld(),
                    states_of(s, e),
                    more ? states_of(s + 1, e) : States{}};
    int64_t i = 0;
    if constexpr (kFourAtOnce<T>) {
      hn::StoreU(hn::Zero(d), d, out_);
      for (; i + 4 <= live; i += 4) {
        const V s0 = advance(in, i), s1 = advance(in, i + 1), s2 = advance(in, i + 2), s3 = advance(in, i + 3);
        hn::StoreU(sums_of_four(d, s0, s1, s2, s3), d, parts_);
        add_four(d, parts_, out_ + i);
      }
    }
    for (; i < live; ++i) out_[i] = hn::GetLane(hn::SumOfLanes(d, advance(in, i)));
    V out = load_first(d, out_, live);
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
  T* parts_;           // [lane]
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

// The backward pass of the selective scan on the CPU. A pair of blocks walks chunks of tokens from last to first;
// inside a chunk, four states at a time are recomputed from the saved state and then run back while still in the
// first-level cache. With a_t = exp(Δ_t A), u = Δx, p_t = a_t h_{t-1} and g = dy · silu(z), and r the gradient that
// reaches h_t:
//   r_t = g_t C_t + a_{t+1} r_{t+1}     dB_t = Σ_e r u     dC_t = Σ_e g h = Σ_e g p + B_t Σ_e g u
//   du = Σ_n r B     dΔ = du x + Σ_n r p A     dA = Σ_t r p Δ     dx = du Δ + g D
#if defined(MOLT_OPS_SCAN_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MOLT_OPS_SCAN_BACKWARD_INL_H_
#undef MOLT_OPS_SCAN_BACKWARD_INL_H_
#else
#define MOLT_OPS_SCAN_BACKWARD_INL_H_
#endif

#include "molt/device/cpu/parallel.h"
#include "molt/ops/scan_common-inl.h"

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

/// One thread's share of the backward pass: some pairs of blocks, all tokens.
template <class T>
class Backward {
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;

 public:
  /// dA receives dA by block, state and lane; dD by channel; either may be null.
  Backward(const ScanTensors& in, const Sizes<T>& sizes, const TokenRows<T>& B, const TokenRows<T>& C, const T* saved,
           const ScanGrads& grads, const TokenSums<T>& sums, T* dA, T* dD)
      : in_(in), sizes_(sizes), B_(B), C_(C), saved_(saved), grads_(grads), sums_(sums), dA_out_(dA), dD_out_(dD) {
    const int64_t states = kPair * sizes.block_states(), tokens = kPair * kChunk * sizes.lanes;
    scratch_ =
        Tensor::zeros({4 * states + 8 * tokens + 2 * kGroup * tokens + kChunk * sizes.block_states()}, in.x.dtype());
    T* at = scratch_.data<T>();
    for (T** part : {&rates_, &carry_, &dA_, &zeros_}) *part = at, at += states;
    for (T** part : {&dt_, &u_, &g_, &out_, &du_, &ddt_, &slope_, &gate_slope_}) *part = at, at += tokens;
    decay_p_ = at, at += 2 * kGroup * tokens;
    reduced_ = at;
  }

  /// Blocks [kPair · pair, kPair · (pair + 1)). train_A: whether some channel of them wants its row of dA.
  void pair(int64_t pair, bool train_A) {
    first_block_ = pair * kPair;
    train_A_ = train_A;
    const int64_t size = sizes_.block_states(), all = sizes_.channels * sizes_.states;
    std::fill_n(dA_, kPair * size, T(0));
    for (int64_t w = 0; w < kPair; ++w) load_rates(sizes_, first_block_ + w, in_.A_log, rates_ + w * size);
    for (int64_t s = 0; s < in_.segments->count(); ++s) {
      const int64_t begin = in_.segments->begin(s), chunk0 = sizes_.first_chunk[static_cast<size_t>(s)];
      for (int64_t w = 0; w < kPair; ++w) {
        if (grads_.dstate.defined()) {
          load_block(sizes_, first_block_ + w, grads_.dstate.template data<T>() + s * all, carry_ + w * size);
        } else {
          std::fill_n(carry_ + w * size, size, T(0));
        }
      }
      for (int64_t c = sizes_.first_chunk[static_cast<size_t>(s) + 1] - 1; c >= chunk0; --c) {
        const int64_t first = begin + (c - chunk0) * kChunk;
        chunk(c, first, std::min(kChunk, in_.segments->end(s) - first));
      }
      if (grads_.dh0.tensor.defined()) {
        for (int64_t w = 0; w < kPair; ++w)
          store_block(sizes_, first_block_ + w, carry_ + w * size, grads_.dh0.accumulate,
                      grads_.dh0.tensor.template data<T>() + s * all);
      }
    }
    if (train_A) std::copy_n(dA_, kPair * size, dA_out_ + first_block_ * size);
  }

 private:
  void chunk(int64_t chunk, int64_t first, int64_t rows) {
    for (int64_t w = 0; w < kPair; ++w) gate(w, first, rows);
    for (int64_t n = 0; n < sizes_.padded_states; n += kGroup) {
      for (int64_t w = 0; w < kPair; ++w) recompute(w, n, chunk, first, rows);
      train_A_ ? reverse<true>(n, first, rows) : reverse<false>(n, first, rows);
    }
    sum_tokens(first, rows);
    for (int64_t w = 0; w < kPair; ++w) finish(w, first, rows);
  }

  // Everything that has no state: Δ, Δx, g, slopes of softplus and gate, what y starts from.
  void gate(int64_t w, int64_t first, int64_t rows) {
    const D d;
    const int64_t lanes = sizes_.lanes, live = sizes_.live(first_block_ + w);
    const int64_t at = sizes_.first_channel(first_block_ + w);
    const V skip = in_.D.defined() ? load_first(d, in_.D.template data<T>() + at, live) : hn::Zero(d);
    for (int64_t t = 0; t < rows; ++t) {
      const int64_t to = (w * kChunk + t) * lanes, token = first + t;
      const auto step =
          softplus_and_slope(d, load_first(d, in_.dt.template data<T>() + token * in_.dt.ld() + at, live));
      const V x = load_first(d, in_.x.template data<T>() + token * in_.x.ld() + at, live);
      V g = hn::Zero(d);
      if (grads_.dy.defined()) g = load_first(d, grads_.dy.template data<T>() + token * grads_.dy.ld() + at, live);
      if (in_.z.defined()) {
        const V z = load_first(d, in_.z.template data<T>() + token * in_.z.ld() + at, live), s = sigmoid(d, z);
        hn::StoreU(hn::Mul(g, silu_slope(d, z, s)), d, gate_slope_ + to);
        g = hn::Mul(g, hn::Mul(z, s));
      }
      hn::StoreU(step.value, d, dt_ + to);
      hn::StoreU(step.slope, d, slope_ + to);
      hn::StoreU(hn::Mul(step.value, x), d, u_ + to);
      hn::StoreU(g, d, g_ + to);
      hn::StoreU(hn::Mul(skip, x), d, out_ + to);
      hn::StoreU(hn::Zero(d), d, du_ + to);
      hn::StoreU(hn::Zero(d), d, ddt_ + to);
    }
  }

  // States [n, n + 4) of one block forward through the chunk: keeps a and p of every token, adds C h to y.
  HWY_NOINLINE void recompute(int64_t w, int64_t n, int64_t chunk, int64_t first, int64_t rows) {
    const D d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), block = first_block_ + w;
    const T* start = sizes_.live(block) > 0 ? saved_ + sizes_.saved_at(chunk, block) : zeros_;
    const T* rates = rates_ + w * sizes_.block_states();
    V h[kGroup], rate[kGroup];
    MOLT_UNROLL(4)
    for (int64_t i = 0; i < kGroup; ++i) {
      h[i] = hn::LoadU(d, start + (n + i) * lanes);
      rate[i] = hn::LoadU(d, rates + (n + i) * lanes);
    }
    for (int64_t t = 0; t < rows; ++t) {
      const int64_t at = (w * kChunk + t) * lanes;
      const V dt = hn::LoadU(d, dt_ + at), u = hn::LoadU(d, u_ + at);
      V out = hn::LoadU(d, out_ + at);
      const T* b = B_.row(first + t) + n;
      const T* c = C_.row(first + t) + n;
      T* keep = decay_p_ + at * 2 * kGroup;
      MOLT_UNROLL(4)
      for (int64_t i = 0; i < kGroup; ++i) {
        const V a = decay(d, dt, rate[i]), p = hn::Mul(a, h[i]);
        hn::StoreU(a, d, keep + 2 * i * lanes);
        hn::StoreU(p, d, keep + (2 * i + 1) * lanes);
        h[i] = hn::MulAdd(u, hn::Set(d, b[i]), p);
        out = hn::MulAdd(h[i], hn::Set(d, c[i]), out);
      }
      hn::StoreU(out, d, out_ + at);
    }
  }

  // States [n, n + 4) of both blocks backward through the chunk.
  template <bool kTrainA>
  HWY_NOINLINE void reverse(int64_t n, int64_t first, int64_t rows) {
    const D d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), size = sizes_.block_states();
    V carry[kPair][kGroup], rate[kPair][kGroup], dA[kPair][kGroup];
    MOLT_UNROLL(2)
    for (int64_t w = 0; w < kPair; ++w) {
      MOLT_UNROLL(4)
      for (int64_t i = 0; i < kGroup; ++i) {
        carry[w][i] = hn::LoadU(d, carry_ + w * size + (n + i) * lanes);
        rate[w][i] = hn::LoadU(d, rates_ + w * size + (n + i) * lanes);
        if (kTrainA) dA[w][i] = hn::LoadU(d, dA_ + w * size + (n + i) * lanes);
      }
    }
    for (int64_t t = rows - 1; t >= 0; --t) {
      const T* b = B_.row(first + t) + n;
      const T* c = C_.row(first + t) + n;
      V sum_b[kGroup], sum_c[kGroup];
      MOLT_UNROLL(2)
      for (int64_t w = 0; w < kPair; ++w) {
        const int64_t at = (w * kChunk + t) * lanes;
        const T* kept = decay_p_ + at * 2 * kGroup;
        const V g = hn::LoadU(d, g_ + at), u = hn::LoadU(d, u_ + at);
        V du = hn::LoadU(d, du_ + at), ddt = hn::LoadU(d, ddt_ + at);
        MOLT_UNROLL(4)
        for (int64_t i = 0; i < kGroup; ++i) {
          const V a = hn::LoadU(d, kept + 2 * i * lanes), p = hn::LoadU(d, kept + (2 * i + 1) * lanes);
          const V r = hn::MulAdd(g, hn::Set(d, c[i]), carry[w][i]);
          sum_b[i] = w ? hn::MulAdd(r, u, sum_b[i]) : hn::Mul(r, u);
          sum_c[i] = w ? hn::MulAdd(g, p, sum_c[i]) : hn::Mul(g, p);
          du = hn::MulAdd(r, hn::Set(d, b[i]), du);
          carry[w][i] = hn::Mul(a, r);
          const V rp = hn::Mul(r, p);
          ddt = hn::MulAdd(rp, rate[w][i], ddt);
          if (kTrainA) dA[w][i] = hn::MulAdd(rp, hn::LoadU(d, dt_ + at), dA[w][i]);
        }
        hn::StoreU(du, d, du_ + at);
        hn::StoreU(ddt, d, ddt_ + at);
      }
      if constexpr (kFourAtOnce<T>) {
        T* to = reduced_ + (t * sizes_.padded_states + n) * lanes / 2;
        hn::StoreU(sums_of_four(d, sum_b[0], sum_b[1], sum_b[2], sum_b[3]), d, to);
        hn::StoreU(sums_of_four(d, sum_c[0], sum_c[1], sum_c[2], sum_c[3]), d, to + lanes);
      } else {
        for (int64_t i = 0; i < kGroup; ++i) {
          sums_.dB[(first + t) * sizes_.padded_states + n + i] += hn::GetLane(hn::SumOfLanes(d, sum_b[i]));
          sums_.dC_of_p[(first + t) * sizes_.padded_states + n + i] += hn::GetLane(hn::SumOfLanes(d, sum_c[i]));
        }
      }
    }
    MOLT_UNROLL(2)
    for (int64_t w = 0; w < kPair; ++w) {
      MOLT_UNROLL(4)
      for (int64_t i = 0; i < kGroup; ++i) {
        hn::StoreU(carry[w][i], d, carry_ + w * size + (n + i) * lanes);
        if (kTrainA) hn::StoreU(dA[w][i], d, dA_ + w * size + (n + i) * lanes);
      }
    }
  }

  // Adds what this pair contributes to sums over channels.
  void sum_tokens(int64_t first, int64_t rows) {
    const D d;
    const int64_t lanes = sizes_.lanes, states = sizes_.padded_states;
    for (int64_t t = 0; t < rows; ++t) {
      V sum = hn::Zero(d);
      for (int64_t w = 0; w < kPair; ++w) {
        const int64_t at = (w * kChunk + t) * lanes;
        sum = hn::MulAdd(hn::LoadU(d, g_ + at), hn::LoadU(d, u_ + at), sum);
      }
      sums_.g_u[first + t] += hn::GetLane(hn::SumOfLanes(d, sum));
      if constexpr (kFourAtOnce<T>) {
        const hn::CappedTag<T, kGroup> four;
        for (int64_t n = 0; n < states; n += kGroup) {
          const T* from = reduced_ + (t * states + n) * lanes / 2;
          for (T* to : {sums_.dB + (first + t) * states + n, sums_.dC_of_p + (first + t) * states + n}) {
            auto total = hn::LoadU(four, to);
            for (int64_t i = 0; i < lanes; i += kGroup) total = hn::Add(total, hn::LoadU(four, from + i));
            hn::StoreU(total, four, to);
            from += lanes;
          }
        }
      }
    }
  }

  void finish(int64_t w, int64_t first, int64_t rows) {
    const D d;
    const int64_t lanes = sizes_.lanes, live = sizes_.live(first_block_ + w);
    const int64_t at = sizes_.first_channel(first_block_ + w);
    if (live == 0) return;
    const V skip = in_.D.defined() ? load_first(d, in_.D.template data<T>() + at, live) : hn::Zero(d);
    const V rate_unit = hn::Set(d, 1 / kRateUnit<T>);
    auto give = [&](const GradOut& target, int64_t token, V v) HWY_ATTR {
      if (!target.tensor.defined()) return;
      T* to = target.tensor.template data<T>() + token * target.tensor.ld() + at;
      store_first(d, target.accumulate ? hn::Add(v, load_first(d, to, live)) : v, to, live);
    };
    V dD = dD_out_ ? load_first(d, dD_out_ + at, live) : hn::Zero(d);
    for (int64_t t = 0; t < rows; ++t) {
      const int64_t from = (w * kChunk + t) * lanes, token = first + t;
      const V x = load_first(d, in_.x.template data<T>() + token * in_.x.ld() + at, live);
      const V g = hn::LoadU(d, g_ + from), du = hn::LoadU(d, du_ + from);
      const V ddt = hn::MulAdd(du, x, hn::Mul(hn::LoadU(d, ddt_ + from), rate_unit));
      give(grads_.dx, token, hn::MulAdd(du, hn::LoadU(d, dt_ + from), hn::Mul(g, skip)));
      give(grads_.ddt, token, hn::Mul(ddt, hn::LoadU(d, slope_ + from)));
      give(grads_.dz, token, hn::Mul(hn::LoadU(d, out_ + from), hn::LoadU(d, gate_slope_ + from)));
      dD = hn::MulAdd(g, x, dD);
    }
    if (dD_out_) store_first(d, dD, dD_out_ + at, live);
  }

  const ScanTensors& in_;
  const Sizes<T>& sizes_;
  const TokenRows<T>&B_, &C_;
  const T* saved_;
  const ScanGrads& grads_;
  const TokenSums<T>& sums_;
  T *dA_out_, *dD_out_;
  int64_t first_block_ = 0;
  bool train_A_ = false;
  Tensor scratch_;
  T *rates_, *carry_, *dA_, *zeros_;                            // [block][state][lane]
  T *dt_, *u_, *g_, *out_, *du_, *ddt_, *slope_, *gate_slope_;  // [block][token][lane]
  T* decay_p_;                                                  // [block][token][state of the group][a, p][lane]
  T* reduced_;                                                  // [token][group][B, C][lane]: sums_of_four
};

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

/// Calls f(place in the compact gradient, channel) for the wanted rows.
template <class F>
void for_rows(const IndexSetPtr& rows, int64_t channels, F&& f) {
  const int64_t count = rows ? static_cast<int64_t>(rows->size()) : channels;
  for (int64_t i = 0; i < count; ++i) f(i, rows ? (*rows)[static_cast<size_t>(i)] : i);
}

template <class T>
void backward_typed(const ScanTensors& in, const Tensor& saved, const ScanGrads& grads) {
  const Sizes<T> sizes(in);
  const TokenRows<T> B(in.B, sizes.padded_states), C(in.C, sizes.padded_states);
  const int64_t pairs = sizes.blocks / kPair, pair_width = kPair * sizes.lanes;
  Tensor dA, dD;
  std::vector<bool> train_A(static_cast<size_t>(pairs), false);
  if (grads.dA_log.tensor.defined()) {
    dA = in.x.like({sizes.blocks * sizes.block_states()});
    for_rows(grads.A_log_rows, sizes.channels,
             [&](int64_t, int64_t e) { train_A[static_cast<size_t>(e / pair_width)] = true; });
  }
  if (grads.dD.tensor.defined()) dD = Tensor::zeros({sizes.channels}, in.x.dtype());

  const int64_t work = std::max<int64_t>(sizes.tokens, 1) * kPair * sizes.block_states();
  const int64_t parts = std::clamp<int64_t>(pairs * work / kGrain, 1, std::min<int64_t>(thread_count(), pairs));
  std::vector<TokenSums<T>> sums;
  for (int64_t part = 0; part < parts; ++part) sums.emplace_back(sizes);
  parallel_for(parts, 1, [&](int64_t part) {
    Backward<T> share(in, sizes, B, C, saved.data<T>(), grads, sums[static_cast<size_t>(part)],
                      dA.defined() ? dA.data<T>() : nullptr, dD.defined() ? dD.data<T>() : nullptr);
    for (int64_t pair = pairs * part / parts; pair < pairs * (part + 1) / parts; ++pair)
      share.pair(pair, train_A[static_cast<size_t>(pair)]);
  });

  combine_token_sums(sizes, B, sums, grads);
  for_rows(grads.A_log_rows, dA.defined() ? sizes.channels : 0, [&](int64_t i, int64_t e) {
    const T* from = dA.data<T>() + e / sizes.lanes * sizes.block_states() + e % sizes.lanes;
    for (int64_t n = 0; n < sizes.states; ++n) {
      T& to = grads.dA_log.tensor.template data<T>()[i * sizes.states + n];
      const T A = -std::exp(in.A_log.data<T>()[e * in.A_log.ld() + n]);
      to = A * from[n * sizes.lanes] + (grads.dA_log.accumulate ? to : T(0));
    }
  });
  for_rows(grads.D_rows, dD.defined() ? sizes.channels : 0, [&](int64_t i, int64_t e) {
    T& to = grads.dD.tensor.template data<T>()[i];
    to = dD.data<T>()[e] + (grads.dD.accumulate ? to : T(0));
  });
}

}  // namespace
}  // namespace molt::ops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard

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
#include "molt/ops/scan_sums-inl.h"

HWY_BEFORE_NAMESPACE();
namespace molt::ops::HWY_NAMESPACE {
namespace {

/// One thread's share of the backward pass: some pairs of blocks, all tokens. S: the type in which z, y and their
/// gradients are kept.
template <class T, class S>
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
    for (int64_t s = in_.segments->count() - 1; s >= 0; --s) {
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
    next_ = RowPrefetch();
    if (first >= kChunk) {
      const int64_t at = sizes_.first_channel(first_block_), wide = kPair * sizes_.vector_bytes(),
                    narrow = kPair * sizes_.lanes * static_cast<int64_t>(sizeof(S));
      for (const Tensor* t : {&in_.x, &in_.dt, &grads_.dx.tensor, &grads_.ddt.tensor})
        next_.template add<T>(*t, first - kChunk, kChunk, at, wide);
      for (const Tensor* t : {&in_.z, &grads_.dy, &grads_.dz.tensor})
        next_.template add<S>(*t, first - kChunk, kChunk, at, narrow);
    }
    if (chunk > 0) next_.add(saved_ + sizes_.saved_at(chunk - 1, first_block_), kPair * sizes_.block_states());
    for (int64_t w = 0; w < kPair; ++w) gate(w, first, rows);
    for (int64_t n = 0; n < sizes_.padded_states; n += kGroup) {
      for (int64_t w = 0; w < kPair; ++w) recompute(w, n, chunk, first, rows);
      train_A_ ? reverse<true>(n, first, rows) : reverse<false>(n, first, rows);
    }
    sum_tokens(sizes_, g_, u_, reduced_, first, rows, sums_);
    for (int64_t w = 0; w < kPair; ++w) finish(w, first, rows);
  }

  /// Where a block's part of a matrix over tokens begins; null where there is none.
  template <class E = T>
  static const E* rows_of(const Tensor& t, int64_t first, int64_t at) {
    return t.defined() ? t.template data<E>() + first * t.ld() + at : nullptr;
  }

  // Everything that has no state: Δ, Δx, g, slopes of softplus and gate, what y starts from.
  HWY_NOINLINE void gate(int64_t w, int64_t first, int64_t rows) {
    const int64_t live = sizes_.live(first_block_ + w), at = sizes_.first_channel(first_block_ + w);
    const Streams from{rows_of(in_.x, first, at),
                       rows_of(in_.dt, first, at),
                       rows_of<S>(grads_.dy, first, at),
                       rows_of<S>(in_.z, first, at),
                       in_.x.ld(),
                       in_.dt.ld(),
                       grads_.dy.ld(),
                       in_.z.ld()};
    int64_t t = 0;
    if (live == sizes_.lanes) {
      for (; t + 4 <= rows; t += 4) gate_tokens<4>(w, t, at, static_cast<int64_t>(hn::Lanes(D())), from);
    }
    for (; t < rows; ++t) gate_tokens<1>(w, t, at, live, from);
  }

  struct Streams {
    const T *x, *dt;
    const S *dy, *z;
    int64_t ld_x, ld_dt, ld_dy, ld_z;
  };

  template <int K>
  HWY_INLINE void gate_tokens(int64_t w, int64_t t, int64_t at, int64_t live, const Streams& from) {
    const D d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), to = (w * kChunk + t) * lanes;
    const V skip = in_.D.defined() ? load_first(d, in_.D.template data<T>() + at, live) : hn::Zero(d);
    T *HWY_RESTRICT dts = dt_ + to, *HWY_RESTRICT slopes = slope_ + to, *HWY_RESTRICT us = u_ + to;
    T *HWY_RESTRICT outs = out_ + to, *HWY_RESTRICT dus = du_ + to, *HWY_RESTRICT ddts = ddt_ + to;
    T *HWY_RESTRICT gs = g_ + to, *HWY_RESTRICT gate_slopes = gate_slope_ + to;
    V step[K], slope[K], g[K], z[K];
    MOLT_EACH(K) step[i] = load_first(d, from.dt + (t + i) * from.ld_dt, live);
    softplus_each<true>(d, step, slope);
    MOLT_EACH(K) {
      const V x = load_first(d, from.x + (t + i) * from.ld_x, live);
      hn::StoreU(step[i], d, dts + i * lanes);
      hn::StoreU(slope[i], d, slopes + i * lanes);
      hn::StoreU(hn::Mul(step[i], x), d, us + i * lanes);
      hn::StoreU(hn::Mul(skip, x), d, outs + i * lanes);
      hn::StoreU(hn::Zero(d), d, dus + i * lanes);
      hn::StoreU(hn::Zero(d), d, ddts + i * lanes);
      g[i] = from.dy ? load_first(d, from.dy + (t + i) * from.ld_dy, live) : hn::Zero(d);
    }
    if (from.z) {
      MOLT_EACH(K) z[i] = load_first(d, from.z + (t + i) * from.ld_z, live);
      sigmoid_each(d, z, slope);
      MOLT_EACH(K) {
        hn::StoreU(hn::Mul(g[i], silu_slope(d, z[i], slope[i])), d, gate_slopes + i * lanes);
        g[i] = hn::Mul(g[i], hn::Mul(z[i], slope[i]));
      }
    }
    MOLT_EACH(K) hn::StoreU(g[i], d, gs + i * lanes);
  }

  // Members are copied to locals below: stores of vectors may alias anything, and would have them read again each time.

  // States [n, n + 4) of one block forward through the chunk: keeps a and p of every token, adds C h to y.
  HWY_NOINLINE void recompute(int64_t w, int64_t n, int64_t chunk, int64_t first, int64_t rows) {
    const D d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), block = first_block_ + w, at = w * kChunk * lanes;
    const T* start = sizes_.live(block) > 0 ? saved_ + sizes_.saved_at(chunk, block) : zeros_;
    const T* rates = rates_ + w * sizes_.block_states();
    const T* HWY_RESTRICT dts = dt_ + at;
    const T* HWY_RESTRICT us = u_ + at;
    const T* HWY_RESTRICT b = B_.row(first) + n;
    const T* HWY_RESTRICT c = C_.row(first) + n;
    T* HWY_RESTRICT outs = out_ + at;
    T* HWY_RESTRICT keep = decay_p_ + at * 2 * kGroup;
    const int64_t ld_b = B_.ld, ld_c = C_.ld;
    V h[kGroup], rate[kGroup];
    MOLT_EACH(kGroup) {
      h[i] = hn::LoadU(d, start + (n + i) * lanes);
      rate[i] = hn::LoadU(d, rates + (n + i) * lanes);
    }
    for (int64_t t = 0; t < rows; ++t) {
      const V dt = hn::LoadU(d, dts), u = hn::LoadU(d, us);
      V out = hn::LoadU(d, outs);
      MOLT_EACH(kGroup) {
        const V a = decay(d, dt, rate[i]), p = hn::Mul(a, h[i]);
        hn::StoreU(a, d, keep + 2 * i * lanes);
        hn::StoreU(p, d, keep + (2 * i + 1) * lanes);
        h[i] = hn::MulAdd(u, hn::Set(d, b[i]), p);
        out = hn::MulAdd(h[i], hn::Set(d, c[i]), out);
      }
      hn::StoreU(out, d, outs);
      dts += lanes, us += lanes, outs += lanes, keep += 2 * kGroup * lanes, b += ld_b, c += ld_c;
    }
  }

  // States [n, n + 4) of both blocks backward through the chunk.
  template <bool kTrainA>
  HWY_NOINLINE void reverse(int64_t n, int64_t first, int64_t rows) {
    const D d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), size = sizes_.block_states();
    const int64_t states = sizes_.padded_states, ld_b = B_.ld, ld_c = C_.ld, last = rows - 1;
    T* const carries = carry_ + n * lanes;
    T* const dAs = dA_ + n * lanes;
    const T* rates = rates_ + n * lanes;
    V carry[kPair][kGroup], rate[kPair][kGroup], dA[kPair][kGroup];
    MOLT_UNROLL(2)
    for (int64_t w = 0; w < kPair; ++w) {
      MOLT_EACH(kGroup) {
        carry[w][i] = hn::LoadU(d, carries + w * size + i * lanes);
        rate[w][i] = hn::LoadU(d, rates + w * size + i * lanes);
        if (kTrainA) dA[w][i] = hn::LoadU(d, dAs + w * size + i * lanes);
      }
    }
    const T* HWY_RESTRICT b = B_.row(first + last) + n;
    const T* HWY_RESTRICT c = C_.row(first + last) + n;
    const T* HWY_RESTRICT kept = decay_p_ + last * lanes * 2 * kGroup;
    const T* HWY_RESTRICT gs = g_ + last * lanes;
    const T* HWY_RESTRICT us = u_ + last * lanes;
    const T* HWY_RESTRICT dts = dt_ + last * lanes;
    T* HWY_RESTRICT dus = du_ + last * lanes;
    T* HWY_RESTRICT ddts = ddt_ + last * lanes;
    T* HWY_RESTRICT reduced = reduced_ + (last * states + n) * lanes / 2;
    T* dB = sums_.dB + (first + last) * states + n;
    T* dC = sums_.dC_of_p + (first + last) * states + n;
    for (int64_t t = last; t >= 0; --t) {
      V sum_b[kGroup], sum_c[kGroup];
      MOLT_UNROLL(2)
      for (int64_t w = 0; w < kPair; ++w) {
        const int64_t at = w * kChunk * lanes;
        const V g = hn::LoadU(d, gs + at), u = hn::LoadU(d, us + at);
        V du = hn::LoadU(d, dus + at), ddt = hn::LoadU(d, ddts + at);
        MOLT_EACH(kGroup) {
          const T* pair = kept + at * 2 * kGroup + 2 * i * lanes;
          const V p = hn::LoadU(d, pair + lanes);
          const V r = hn::MulAdd(g, hn::Set(d, c[i]), carry[w][i]);
          sum_b[i] = w ? hn::MulAdd(r, u, sum_b[i]) : hn::Mul(r, u);
          sum_c[i] = w ? hn::MulAdd(g, p, sum_c[i]) : hn::Mul(g, p);
          du = hn::MulAdd(r, hn::Set(d, b[i]), du);
          carry[w][i] = hn::Mul(r, hn::LoadU(d, pair));
          const V rp = hn::Mul(r, p);
          ddt = hn::MulAdd(rp, rate[w][i], ddt);
          if (kTrainA) dA[w][i] = hn::MulAdd(rp, hn::LoadU(d, dts + at), dA[w][i]);
        }
        hn::StoreU(du, d, dus + at);
        hn::StoreU(ddt, d, ddts + at);
      }
      if constexpr (kFourAtOnce<T>) {
        hn::StoreU(sums_of_four(d, sum_b[0], sum_b[1], sum_b[2], sum_b[3]), d, reduced);
        hn::StoreU(sums_of_four(d, sum_c[0], sum_c[1], sum_c[2], sum_c[3]), d, reduced + lanes);
      } else {
        for (int64_t i = 0; i < kGroup; ++i) {
          dB[i] += hn::GetLane(hn::SumOfLanes(d, sum_b[i]));
          dC[i] += hn::GetLane(hn::SumOfLanes(d, sum_c[i]));
        }
      }
      gs -= lanes, us -= lanes, dts -= lanes, dus -= lanes, ddts -= lanes, kept -= 2 * kGroup * lanes;
      next_.step();
      b -= ld_b, c -= ld_c, reduced -= states * lanes / 2, dB -= states, dC -= states;
    }
    MOLT_UNROLL(2)
    for (int64_t w = 0; w < kPair; ++w) {
      MOLT_EACH(kGroup) {
        hn::StoreU(carry[w][i], d, carries + w * size + i * lanes);
        if (kTrainA) hn::StoreU(dA[w][i], d, dAs + w * size + i * lanes);
      }
    }
  }

  // Gradients of what comes in by token and channel, and of D.
  HWY_NOINLINE void finish(int64_t w, int64_t first, int64_t rows) {
    const int64_t live = sizes_.live(first_block_ + w);
    if (live == sizes_.lanes) {
      finish_tokens(w, first, rows, static_cast<int64_t>(hn::Lanes(D())));
    } else if (live > 0) {
      finish_tokens(w, first, rows, live);
    }
  }

  HWY_INLINE void finish_tokens(int64_t w, int64_t first, int64_t rows, int64_t live) {
    const D d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), from = w * kChunk * lanes;
    const int64_t at = sizes_.first_channel(first_block_ + w);
    const V skip = in_.D.defined() ? load_first(d, in_.D.template data<T>() + at, live) : hn::Zero(d);
    const V rate_unit = hn::Set(d, 1 / kRateUnit<T>);
    const Target<T> dx(grads_.dx, first, at), ddt(grads_.ddt, first, at);
    const Target<S> dz(grads_.dz, first, at);
    const T *HWY_RESTRICT x = rows_of(in_.x, first, at), *HWY_RESTRICT gs = g_ + from, *HWY_RESTRICT dus = du_ + from;
    const T *HWY_RESTRICT ddts = ddt_ + from, *HWY_RESTRICT dts = dt_ + from, *HWY_RESTRICT slopes = slope_ + from;
    const T *HWY_RESTRICT outs = out_ + from, *HWY_RESTRICT gate_slopes = gate_slope_ + from;
    const int64_t ld_x = in_.x.ld();
    V dD = dD_out_ ? load_first(d, dD_out_ + at, live) : hn::Zero(d);
    for (int64_t t = 0; t < rows; ++t) {
      const V input = load_first(d, x + t * ld_x, live);
      const V g = hn::LoadU(d, gs + t * lanes), du = hn::LoadU(d, dus + t * lanes);
      const V step = hn::MulAdd(du, input, hn::Mul(hn::LoadU(d, ddts + t * lanes), rate_unit));
      dx.put(t, hn::MulAdd(du, hn::LoadU(d, dts + t * lanes), hn::Mul(g, skip)), live);
      ddt.put(t, hn::Mul(step, hn::LoadU(d, slopes + t * lanes)), live);
      dz.put(t, hn::Mul(hn::LoadU(d, outs + t * lanes), hn::LoadU(d, gate_slopes + t * lanes)), live);
      dD = hn::MulAdd(g, input, dD);
    }
    if (dD_out_) store_first(d, dD, dD_out_ + at, live);
  }

  /// A block's part of a gradient over tokens.
  template <class E>
  struct Target {
    E* data;
    int64_t ld;
    bool accumulate;

    Target(const GradOut& out, int64_t first, int64_t at)
        : data(const_cast<E*>(rows_of<E>(out.tensor, first, at))), ld(out.tensor.ld()), accumulate(out.accumulate) {}
    HWY_INLINE void put(int64_t t, V v, int64_t live) const {
      if (!data) return;
      const D d;
      E* to = data + t * ld;
      store_first(d, accumulate ? hn::Add(v, load_first(d, to, live)) : v, to, live);
    }
  };

  const ScanTensors& in_;
  const Sizes<T>& sizes_;
  const TokenRows<T>&B_, &C_;
  const T* saved_;
  const ScanGrads& grads_;
  const TokenSums<T>& sums_;
  T *dA_out_, *dD_out_;
  int64_t first_block_ = 0;
  bool train_A_ = false;
  RowPrefetch next_;
  Tensor scratch_;
  T *rates_, *carry_, *dA_, *zeros_;                            // [block][state][lane]
  T *dt_, *u_, *g_, *out_, *du_, *ddt_, *slope_, *gate_slope_;  // [block][token][lane]
  T* decay_p_;                                                  // [block][token][state of the group][a, p][lane]
  T* reduced_;                                                  // [token][group][B, C][lane]: sums_of_four
};

/// Calls f(place in the compact gradient, channel) for the wanted rows.
template <class F>
void for_rows(const IndexSetPtr& rows, int64_t channels, F&& f) {
  const int64_t count = rows ? static_cast<int64_t>(rows->size()) : channels;
  for (int64_t i = 0; i < count; ++i) f(i, rows ? (*rows)[static_cast<size_t>(i)] : i);
}

template <class T, class S>
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
    Backward<T, S> share(in, sizes, B, C, saved.data<T>(), grads, sums[static_cast<size_t>(part)],
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

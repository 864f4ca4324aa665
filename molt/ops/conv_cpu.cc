// CPU kernels of the causal convolution, vectorised over channels. Rows are walked in order, so that memory streams;
// weights are repacked per tap. Every channel is summed by one thread in order of tokens: results do not depend on the
// number of threads.
#include "molt/ops/conv.h"

#include <algorithm>
#include <vector>

#include "molt/device/cpu/parallel.h"

#include "molt/ops/simd.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "molt/ops/conv_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "molt/ops/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace molt::ops::HWY_NAMESPACE {
namespace {

constexpr int64_t kChunk = 8;        // tokens whose gradients are held in cache together
constexpr int64_t kTile = 512;       // channels walked together
constexpr int64_t kGrain = 1 << 14;  // elements below which a second thread costs more than it brings

/// Weights by tap, (K+1, E rounded up to whole vectors), zeros in what was added; the last row is the bias.
template <class T>
Tensor pack_weights(const ConvInputs& in) {
  const hn::ScalableTag<T> d;
  const int64_t channels = in.weight.dim(0), taps = in.weight.dim(1), lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t padded = (channels + lanes - 1) / lanes * lanes;
  Tensor packed = in.weight.like({taps + 1, padded});
  T* to = packed.data<T>();
  const T* from = in.weight.data<T>();
  const int64_t ld = in.weight.ld();
  int64_t c = 0;
  if (taps == 4 && ld == 4) {
    for (; c + lanes <= channels; c += lanes) {
      auto w0 = hn::Zero(d), w1 = w0, w2 = w0, w3 = w0;
      hn::LoadInterleaved4(d, from + c * 4, w0, w1, w2, w3);
      hn::StoreU(w0, d, to + c);
      hn::StoreU(w1, d, to + padded + c);
      hn::StoreU(w2, d, to + 2 * padded + c);
      hn::StoreU(w3, d, to + 3 * padded + c);
    }
  }
  for (int64_t k = 0; k < taps; ++k) {
    for (int64_t i = c; i < padded; ++i) to[k * padded + i] = i < channels ? from[i * ld + k] : T(0);
  }
  T* bias = to + taps * padded;
  std::fill_n(bias, padded, T(0));
  if (in.bias.defined()) std::copy_n(in.bias.data<T>(), channels, bias);
  return packed;
}

/// What may stand before a segment, in the type of x.
struct Around {
  Tensor tails;  // as ConvInputs::tail
  Tensor zeros;  // one row

  explicit Around(const ConvInputs& in) : tails(in.tail), zeros(Tensor::zeros({in.x.dim(1)}, in.x.dtype())) {
    if (tails.defined() && tails.dtype() != in.x.dtype()) tails = tails.to(in.x.dtype());
  }
};

/// The inputs of one segment with the tail before them: row i is what tap 0 of its token i reads. S: the type in which
/// inputs, tails and their gradients are kept.
template <class S>
struct Window {
  const S* x;
  const S* tail;  // null: zeros
  const S* zeros;
  int64_t ld, before, channels;

  Window(const ConvInputs& in, int64_t segment, const Around& around)
      : x(in.x.data<S>() + in.segments->begin(segment) * in.x.ld()),
        tail(nullptr),
        zeros(around.zeros.data<S>()),
        ld(in.x.ld()),
        before(in.weight.dim(1) - 1),
        channels(in.x.dim(1)) {
    if (around.tails.defined()) tail = around.tails.data<S>() + segment * before * channels;
  }
  const S* row(int64_t i) const {
    if (i >= before) return x + (i - before) * ld;
    return tail ? tail + i * channels : zeros;
  }
};

template <class T>
struct Weights {
  const T* w;
  int64_t taps, padded;
};

// Channels [c, c + count) of bias + Σ_k w_k · rows[k]; count <= lanes. kTaps 0: any number.
template <int kTaps, class D, class S, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> preactivation(D d, const Weights<T>& weights, const S* const* rows, int64_t c, int64_t count) {
  const int64_t taps = kTaps ? kTaps : weights.taps;
  auto sum = hn::LoadU(d, weights.w + taps * weights.padded + c);
  for (int64_t k = 0; k < taps; ++k)
    sum = hn::MulAdd(hn::LoadU(d, weights.w + k * weights.padded + c), load_first(d, rows[k] + c, count), sum);
  return sum;
}

// K vectors of one row of y from channel c on; the last has `count` channels.
template <int kTaps, bool kSilu, int K, class D, class S, class T = hn::TFromD<D>>
HWY_INLINE void outputs(D d, const Weights<T>& weights, const S* const* rows, int64_t c, int64_t count, T* y) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  hn::Vec<D> v[K], s[K];
  MOLT_EACH(K) v[i] = preactivation<kTaps>(d, weights, rows, c + i * lanes, count);
  if (kSilu) {
    sigmoid_each(d, v, s);
    MOLT_EACH(K) v[i] = hn::Mul(v[i], s[i]);
  }
  MOLT_EACH(K) store_first(d, v[i], y + c + i * lanes, count);
}

template <int kTaps, bool kSilu, class S, class T>
void forward_tokens(const ConvInputs& in, const Weights<T>& weights, const Around& around, const Tensor& y,
                    int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), channels = in.x.dim(1);
  const std::vector<int64_t>& offsets = in.segments->offsets();
  std::vector<const S*> rows(static_cast<size_t>(weights.taps));
  int64_t segment = std::upper_bound(offsets.begin(), offsets.end(), begin) - offsets.begin() - 1;
  for (int64_t t = begin; t < end; ++segment) {
    const Window<S> window(in, segment, around);
    const int64_t first = in.segments->begin(segment);
    for (const int64_t last = std::min(end, in.segments->end(segment)); t < last; ++t) {
      for (int64_t k = 0; k < weights.taps; ++k) rows[static_cast<size_t>(k)] = window.row(t - first + k);
      T* out = y.data<T>() + t * y.ld();
      int64_t c = 0;
      for (; c + 4 * lanes <= channels; c += 4 * lanes)
        outputs<kTaps, kSilu, 4>(d, weights, rows.data(), c, lanes, out);
      for (; c < channels; c += lanes) outputs<kTaps, kSilu, 1>(d, weights, rows.data(), c, channels - c, out);
    }
  }
}

template <int kTaps, bool kSilu, class T, class S>
void forward_typed(const ConvInputs& in, const Tensor& y, const Tensor& tail_out) {
  const int64_t channels = in.x.dim(1), taps = in.weight.dim(1), before = taps - 1;
  const Tensor packed = pack_weights<T>(in);
  const Around around(in);
  const Weights<T> weights{packed.data<T>(), taps, packed.dim(1)};
  parallel_ranges(in.x.dim(0), kGrain / std::max<int64_t>(channels, 1) + 1, [&](int64_t begin, int64_t end) {
    forward_tokens<kTaps, kSilu, S>(in, weights, around, y, begin, end);
  });
  if (!tail_out.defined()) return;
  for (int64_t s = 0; s < in.segments->count(); ++s) {
    const Window<S> window(in, s, around);
    for (int64_t j = 0; j < before; ++j) {
      const S* row = window.row(in.segments->length(s) + j);
      std::transform(row, row + channels, tail_out.data<T>() + (s * before + j) * channels,
                     [](S v) { return static_cast<T>(v); });
    }
  }
}

/// One thread's share of the backward pass: some channels, all tokens.
template <int kTaps, bool kSilu, class T, class S>
class Backward {
  using D = hn::ScalableTag<T>;

 public:
  Backward(const ConvInputs& in, const ConvGrads& grads, const Weights<T>& weights, const Around& around, T* sums)
      : in_(in),
        grads_(grads),
        weights_(weights),
        around_(around),
        sums_(sums),
        before_(weights.taps - 1),
        scratch_(static_cast<size_t>((before_ + kChunk) * kTile)),
        rows_(static_cast<size_t>(weights.taps)) {}

  // Channels [begin, end); begin is a multiple of the vector length, end too unless it is the last channel.
  void channels(int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; c += kTile) {
      begin_ = c, width_ = std::min(kTile, end - c);
      for (int64_t s = 0; s < in_.segments->count(); ++s) segment(s);
    }
  }

 private:
  // Row l of the inputs with the tail before them gets Σ_k w_k · g_{l-k}, g the gradient of the pre-activation: known
  // as soon as token l is, so everything runs forward in time with the last K-1 rows of g at hand.
  void segment(int64_t s) {
    const Window<S> window(in_, s, around_);
    const int64_t length = in_.segments->length(s);
    std::fill_n(scratch_.begin(), before_ * kTile, T(0));
    for (int64_t first = 0; first < length + before_; first += kChunk) {
      const int64_t rows = std::min(kChunk, length + before_ - first),
                    live = std::clamp<int64_t>(length - first, 0, rows);
      for (int64_t i = 0; i < live; ++i) gate_row(s, window, first + i, g_row(i));
      for (int64_t i = live; i < rows; ++i) std::fill_n(g_row(i), kTile, T(0));
      if (grads_.dweight.defined() || grads_.dbias.defined()) add_to_sums(window, first, live);
      for (int64_t i = 0; i < rows; ++i) input_row(s, first + i, length, i);
      std::copy_n(g_row(rows - before_), before_ * kTile, scratch_.begin());
    }
  }

  /// Row i of this chunk's g; rows -(K-1) to -1 are those before it.
  T* g_row(int64_t i) { return scratch_.data() + (before_ + i) * kTile; }

  void gate_row(int64_t s, const Window<S>& window, int64_t l, T* g) {
    if (!grads_.dy.defined()) {
      std::fill_n(g, kTile, T(0));
      return;
    }
    const D d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    const T* dy = grads_.dy.data<T>() + (in_.segments->begin(s) + l) * grads_.dy.ld() + begin_;
    for (int64_t k = 0; k < weights_.taps; ++k) rows_[static_cast<size_t>(k)] = window.row(l + k);
    int64_t c = 0;
    for (; c + 4 * lanes <= width_; c += 4 * lanes) gate_vectors<4>(dy, c, lanes, g);
    for (; c < width_; c += lanes) gate_vectors<1>(dy, c, width_ - c, g);
  }

  template <int K>
  HWY_INLINE void gate_vectors(const T* dy, int64_t c, int64_t count, T* g) {
    const D d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    hn::Vec<D> v[K], pre[K], s[K];
    MOLT_EACH(K) v[i] = load_first(d, dy + c + i * lanes, count);
    if (kSilu) {
      MOLT_EACH(K) pre[i] = preactivation<kTaps>(d, weights_, rows_.data(), begin_ + c + i * lanes, count);
      sigmoid_each(d, pre, s);
      MOLT_EACH(K) v[i] = hn::Mul(v[i], silu_slope(d, pre[i], s[i]));
    }
    MOLT_EACH(K) hn::StoreU(v[i], d, g + c + i * lanes);
  }

  void add_to_sums(const Window<S>& window, int64_t first, int64_t live) {
    const D d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    auto body = [&](int64_t i, int64_t count) HWY_ATTR {
      for (int64_t k = 0; k < weights_.taps; ++k) {
        T* to = sums_ + k * weights_.padded + begin_ + i;
        auto sum = hn::LoadU(d, to);
        for (int64_t t = 0; t < live; ++t)
          sum =
              hn::MulAdd(hn::LoadU(d, g_row(t) + i), load_first(d, window.row(first + t + k) + begin_ + i, count), sum);
        hn::StoreU(sum, d, to);
      }
      T* to = sums_ + weights_.taps * weights_.padded + begin_ + i;
      auto sum = hn::LoadU(d, to);
      for (int64_t t = 0; t < live; ++t) sum = hn::Add(sum, hn::LoadU(d, g_row(t) + i));
      hn::StoreU(sum, d, to);
    };
    int64_t i = 0;
    for (; i + lanes <= width_; i += lanes) body(i, lanes);
    if (i < width_) body(i, width_ - i);
  }

  void input_row(int64_t s, int64_t l, int64_t length, int64_t at) {
    const int64_t all = in_.x.dim(1);
    const T* from_tail = nullptr;
    if (grads_.dtail_out.defined() && l >= length)
      from_tail = grads_.dtail_out.data<T>() + (s * before_ + l - length) * all + begin_;
    if (l < before_) {
      put_row<T>(grads_.dtail, (s * before_ + l) * all, from_tail, at);
    } else {
      put_row<S>(grads_.dx, (in_.segments->begin(s) + l - before_) * grads_.dx.tensor.ld(), from_tail, at);
    }
  }

  /// E: the type of the target, `place` its row there.
  template <class E>
  void put_row(const GradOut& target, int64_t place, const T* from_tail, int64_t at) {
    if (!target.tensor.defined()) return;
    E* to = target.tensor.data<E>() + place + begin_;
    const D d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), taps = kTaps ? kTaps : weights_.taps;
    auto body = [&](int64_t i, int64_t count) HWY_ATTR {
      auto sum = target.accumulate ? load_first(d, to + i, count) : hn::Zero(d);
      if (from_tail) sum = hn::Add(sum, load_first(d, from_tail + i, count));
      for (int64_t k = 0; k < taps; ++k)
        sum = hn::MulAdd(hn::LoadU(d, weights_.w + k * weights_.padded + begin_ + i), hn::LoadU(d, g_row(at - k) + i),
                         sum);
      store_first(d, sum, to + i, count);
    };
    int64_t i = 0;
    for (; i + lanes <= width_; i += lanes) body(i, lanes);
    if (i < width_) body(i, width_ - i);
  }

  const ConvInputs& in_;
  const ConvGrads& grads_;
  const Weights<T>& weights_;
  const Around& around_;
  T* sums_;  // by tap, as the weights
  int64_t before_, begin_ = 0, width_ = 0;
  std::vector<T> scratch_;
  std::vector<const S*> rows_;
};

template <int kTaps, bool kSilu, class T, class S>
void backward_typed(const ConvInputs& in, const ConvGrads& grads) {
  const int64_t channels = in.x.dim(1), taps = in.weight.dim(1);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  const Tensor packed = pack_weights<T>(in);
  const Around around(in);
  const Tensor sums = Tensor::zeros(packed.shape(), packed.dtype());
  const Weights<T> weights{packed.data<T>(), taps, packed.dim(1)};
  const int64_t vectors = weights.padded / lanes, tokens = std::max<int64_t>(in.x.dim(0), 1);
  parallel_ranges(vectors, kGrain / (tokens * lanes) + 1, [&](int64_t begin, int64_t end) {
    Backward<kTaps, kSilu, T, S>(in, grads, weights, around, sums.data<T>())
        .channels(begin * lanes, std::min(end * lanes, channels));
  });
  const T* sum = sums.data<T>();
  if (grads.dweight.defined()) {
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t k = 0; k < taps; ++k) grads.dweight.data<T>()[c * taps + k] = sum[k * weights.padded + c];
    }
  }
  if (grads.dbias.defined()) std::copy_n(sum + taps * weights.padded, channels, grads.dbias.data<T>());
}

// Calls f<taps, silu, type>: four taps are Mamba's.
template <class F>
void specialised(const ConvInputs& in, F&& f) {
  if (in.x.dtype() == Dtype::kBf16) {
    MOLT_CHECK(in.weight.dim(1) == 4 && in.silu, "conv1d: inputs in bf16 need four taps and SiLU");
    return f.template operator()<4, true, float, bf16>();
  }
  with_compute_type(in.x.dtype(), [&](auto t) {
    using T = decltype(t);
    if (in.weight.dim(1) == 4) {
      in.silu ? f.template operator()<4, true, T, T>() : f.template operator()<4, false, T, T>();
    } else {
      in.silu ? f.template operator()<0, true, T, T>() : f.template operator()<0, false, T, T>();
    }
  });
}

void forward(const ConvInputs& in, const Tensor& y, const Tensor& tail_out) {
  specialised(in,
              [&]<int kTaps, bool kSilu, class T, class S>() { forward_typed<kTaps, kSilu, T, S>(in, y, tail_out); });
}
void backward(const ConvInputs& in, const ConvGrads& grads) {
  specialised(in, [&]<int kTaps, bool kSilu, class T, class S>() { backward_typed<kTaps, kSilu, T, S>(in, grads); });
}

}  // namespace
}  // namespace molt::ops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace molt::ops {
namespace {
HWY_EXPORT(forward);
HWY_EXPORT(backward);
}  // namespace
MOLT_KERNELS(conv_kernels, Device::kCpu, {MOLT_BEST_TARGET(forward), MOLT_BEST_TARGET(backward)});
}  // namespace molt::ops
#endif

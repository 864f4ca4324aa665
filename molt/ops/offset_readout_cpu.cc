// CPU kernels of offset_readout. As in the scan, channels lie across the lanes of a vector (a block), states are
// separate vectors. A tile of blocks, whose offsets stay in the first-level cache, is one thread's over all tokens in
// their order, and tiles are added up in theirs: sums do not depend on the number of threads.
#include "molt/ops/offset_readout.h"

#include <algorithm>

#include "molt/device/cpu/parallel.h"

#include "molt/ops/simd.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "molt/ops/offset_readout_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "molt/ops/scan_common-inl.h"

HWY_BEFORE_NAMESPACE();
namespace molt::ops::HWY_NAMESPACE {
namespace {

constexpr int64_t kTileBlocks = 16;

/// One tile. T: the type that is computed in; S: the one in which y, z and their gradients are kept.
template <class T, class S>
class Tile {
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;

 public:
  static int64_t width() { return kTileBlocks * static_cast<int64_t>(hn::Lanes(D())); }
  static int64_t padded(int64_t states) { return (states + kGroup - 1) / kGroup * kGroup; }

  Tile(const OffsetReadoutInputs& in, int64_t tile)
      : in_(in),
        begin_(tile * width()),
        channels_(std::min(width(), in.z.cols() - begin_)),
        states_(in.C.cols()),
        padded_(padded(states_)),
        lanes_(static_cast<int64_t>(hn::Lanes(D()))),
        blocks_((channels_ + lanes_ - 1) / lanes_),
        scratch_(Tensor::zeros({blocks_ * (2 * padded_ + kChunk) * lanes_ + kChunk * padded_}, in.C.dtype())),
        offset_(scratch_.data<T>()),
        doffset_(offset_ + blocks_ * padded_ * lanes_),
        du_(doffset_ + blocks_ * padded_ * lanes_),
        C_(du_ + blocks_ * kChunk * lanes_) {
    for (int64_t b = 0; b < blocks_; ++b)
      transpose<false>(live(b), states_, in.offset.data<T>() + channel(b) * states_, states_,
                       offset_ + b * padded_ * lanes_, lanes_);
  }

  void forward(const Tensor& y) {
    for (int64_t first = 0; first < y.rows(); first += kChunk) {
      const int64_t rows = load_C(first, y.rows());
      for (int64_t b = 0; b < blocks_; ++b) {
        S* to = y.data<S>() + first * y.ld() + channel(b);
        int64_t t = 0;
        for (; t + 4 <= rows; t += 4) add<4>(b, first, t, to, y.ld());
        for (; t < rows; ++t) add<1>(b, first, t, to, y.ld());
      }
    }
  }

  /// dC: this tile's part of the gradient, (T, padded N).
  void backward(const OffsetReadoutGrads& grads, T* dC) {
    const int64_t tokens = grads.dy.rows();
    for (int64_t first = 0; first < tokens; first += kChunk) {
      const int64_t rows = load_C(first, tokens);
      for (int64_t b = 0; b < blocks_; ++b) {
        int64_t t = 0;
        for (; t + 4 <= rows; t += 4) enter<4>(b, first, t, grads);
        for (; t < rows; ++t) enter<1>(b, first, t, grads);
        if (!grads.doffset.tensor.defined()) continue;
        int64_t n = 0;
        for (; n + 2 * kGroup <= padded_; n += 2 * kGroup) sum_over_tokens<2 * kGroup>(b, n, rows);
        for (; n < padded_; n += kGroup) sum_over_tokens<kGroup>(b, n, rows);
      }
      for (int64_t t = 0; dC && t < rows; ++t) {
        int64_t n = 0;
        for (; n + 2 * kGroup <= padded_; n += 2 * kGroup)
          sum_over_blocks<2 * kGroup>(n, t, dC + (first + t) * padded_);
        for (; n < padded_; n += kGroup) sum_over_blocks<kGroup>(n, t, dC + (first + t) * padded_);
      }
    }
    if (!grads.doffset.tensor.defined()) return;
    T* to = grads.doffset.tensor.template data<T>();
    for (int64_t b = 0; b < blocks_; ++b) {
      const T* from = doffset_ + b * padded_ * lanes_;
      T* rows = to + channel(b) * states_;
      grads.doffset.accumulate ? transpose<true>(states_, live(b), from, lanes_, rows, states_)
                               : transpose<false>(states_, live(b), from, lanes_, rows, states_);
    }
  }

 private:
  int64_t channel(int64_t block) const { return begin_ + block * lanes_; }
  int64_t live(int64_t block) const { return std::min(lanes_, channels_ - block * lanes_); }

  /// The chunk's rows of C, as they lie in the scratch memory: (tokens, padded N). Returns how many there are.
  int64_t load_C(int64_t first, int64_t tokens) {
    const int64_t rows = std::min(kChunk, tokens - first);
    for (int64_t t = 0; t < rows; ++t)
      std::copy_n(in_.C.data<T>() + (first + t) * in_.C.ld(), states_, C_ + t * padded_);
    return rows;
  }

  /// Fetches the same place of the next chunk: rows lie a page or more apart, where no hardware looks ahead.
  static HWY_INLINE void ahead(const S* at, int64_t ld) { __builtin_prefetch(at + kChunk * ld); }

  /// u = C h' of K tokens of a block.
  template <int K>
  HWY_INLINE void read(int64_t block, int64_t t, V (&u)[K]) const {
    const D d;
    const T* HWY_RESTRICT offset = offset_ + block * padded_ * lanes_;
    const T* HWY_RESTRICT c = C_ + t * padded_;
    const int64_t states = states_, ld = padded_, lanes = lanes_;
    MOLT_EACH(K) u[i] = hn::Zero(d);
    for (int64_t n = 0; n < states; ++n) {
      const V h = hn::LoadU(d, offset + n * lanes);
      MOLT_EACH(K) u[i] = hn::MulAdd(h, hn::Set(d, c[i * ld + n]), u[i]);
    }
  }

  template <int K>
  HWY_INLINE void add(int64_t block, int64_t first, int64_t t, S* y, int64_t ld) const {
    const D d;
    const int64_t count = live(block), ld_z = in_.z.ld();
    const S* z = in_.z.data<S>() + (first + t) * ld_z + channel(block);
    V u[K], gate[K], s[K];
    MOLT_EACH(K) ahead(z + i * ld_z, ld_z), ahead(y + (t + i) * ld, ld);
    read<K>(block, t, u);
    MOLT_EACH(K) gate[i] = load_first(d, z + i * ld_z, count);
    sigmoid_each(d, gate, s);
    MOLT_EACH(K) {
      S* to = y + (t + i) * ld;
      store_first(d, hn::MulAdd(hn::Mul(gate[i], s[i]), u[i], load_first(d, to, count)), to, count);
    }
  }

  /// du = dy silu(z), kept for the sums behind, and dz = dy u silu'(z).
  template <int K>
  HWY_INLINE void enter(int64_t block, int64_t first, int64_t t, const OffsetReadoutGrads& grads) {
    const D d;
    const int64_t count = live(block), ld_z = in_.z.ld(), ld_y = grads.dy.ld();
    const S* z = in_.z.data<S>() + (first + t) * ld_z + channel(block);
    const S* dy = grads.dy.data<S>() + (first + t) * ld_y + channel(block);
    T* du = du_ + (block * kChunk + t) * lanes_;
    V g[K], gate[K], s[K];
    MOLT_EACH(K) ahead(z + i * ld_z, ld_z), ahead(dy + i * ld_y, ld_y);
    MOLT_EACH(K) gate[i] = load_first(d, z + i * ld_z, count);
    MOLT_EACH(K) g[i] = load_first(d, dy + i * ld_y, count);
    sigmoid_each(d, gate, s);
    MOLT_EACH(K) hn::StoreU(hn::Mul(g[i], hn::Mul(gate[i], s[i])), d, du + i * lanes_);
    if (!grads.dz.tensor.defined()) return;
    const int64_t ld = grads.dz.tensor.ld();
    S* dz = grads.dz.tensor.template data<S>() + (first + t) * ld + channel(block);
    MOLT_EACH(K) ahead(dz + i * ld, ld);
    V u[K];
    read<K>(block, t, u);
    MOLT_EACH(K) {
      const V v = hn::Mul(hn::Mul(g[i], u[i]), silu_slope(d, gate[i], s[i]));
      S* to = dz + i * ld;
      store_first(d, grads.dz.accumulate ? hn::Add(v, load_first(d, to, count)) : v, to, count);
    }
  }

  /// dh' of a block and K states: Σ_t du_t C_tn.
  template <int K>
  HWY_NOINLINE void sum_over_tokens(int64_t block, int64_t n, int64_t rows) {
    const D d;
    const int64_t lanes = lanes_, ld = padded_;
    T* to = doffset_ + (block * padded_ + n) * lanes;
    const T* HWY_RESTRICT du = du_ + block * kChunk * lanes;
    const T* HWY_RESTRICT c = C_ + n;
    V sum[K];
    MOLT_EACH(K) sum[i] = hn::LoadU(d, to + i * lanes);
    for (int64_t t = 0; t < rows; ++t, du += lanes, c += ld) {
      const V v = hn::LoadU(d, du);
      MOLT_EACH(K) sum[i] = hn::MulAdd(v, hn::Set(d, c[i]), sum[i]);
    }
    MOLT_EACH(K) hn::StoreU(sum[i], d, to + i * lanes);
  }

  /// dC of a token and K states: Σ_e du_e h'_en, over the tile's channels.
  template <int K>
  HWY_NOINLINE void sum_over_blocks(int64_t n, int64_t t, T* dC) const {
    const D d;
    const int64_t lanes = lanes_, step = padded_ * lanes;
    const T* HWY_RESTRICT offset = offset_ + n * lanes;
    const T* HWY_RESTRICT du = du_ + t * lanes;
    V sum[K];
    MOLT_EACH(K) sum[i] = hn::Zero(d);
    for (int64_t b = 0; b < blocks_; ++b, offset += step, du += kChunk * lanes) {
      const V v = hn::LoadU(d, du);
      MOLT_EACH(K) sum[i] = hn::MulAdd(v, hn::LoadU(d, offset + i * lanes), sum[i]);
    }
    MOLT_EACH(K) dC[n + i] = hn::GetLane(hn::SumOfLanes(d, sum[i]));
  }

  const OffsetReadoutInputs& in_;
  int64_t begin_, channels_, states_, padded_, lanes_, blocks_;
  Tensor scratch_;
  T *offset_, *doffset_;  // [block][state][lane]
  T *du_, *C_;            // [block][token][lane], [token][state]: of a chunk
};

template <class T, class S>
void forward_tiles(const OffsetReadoutInputs& in, const Tensor& y) {
  const int64_t tiles = (y.cols() + Tile<T, S>::width() - 1) / Tile<T, S>::width();
  parallel_for(tiles, y.rows() < kChunk ? tiles : 1, [&](int64_t tile) { Tile<T, S>(in, tile).forward(y); });
}

template <class T, class S>
void backward_tiles(const OffsetReadoutInputs& in, const OffsetReadoutGrads& grads) {
  const int64_t tokens = in.z.rows(), states = in.C.cols(), padded = Tile<T, S>::padded(states);
  const int64_t tiles = (in.z.cols() + Tile<T, S>::width() - 1) / Tile<T, S>::width();
  const Tensor& dC = grads.dC.tensor;
  Tensor parts;
  if (dC.defined()) parts = in.C.like({tiles, tokens, padded});
  parallel_for(tiles, 1, [&](int64_t tile) {
    Tile<T, S>(in, tile).backward(grads, dC.defined() ? parts.data<T>() + tile * tokens * padded : nullptr);
  });
  if (!dC.defined()) return;
  parallel_for(tokens, 256, [&](int64_t t) {
    T* to = dC.data<T>() + t * dC.ld();
    for (int64_t n = 0; n < states; ++n) {
      T sum = grads.dC.accumulate ? to[n] : T(0);
      for (int64_t tile = 0; tile < tiles; ++tile) sum += parts.data<T>()[(tile * tokens + t) * padded + n];
      to[n] = sum;
    }
  });
}

void forward(const OffsetReadoutInputs& in, const Tensor& y) {
  if (y.dtype() == Dtype::kBf16) return forward_tiles<float, bf16>(in, y);
  with_compute_type(y.dtype(), [&](auto t) { forward_tiles<decltype(t), decltype(t)>(in, y); });
}
void backward(const OffsetReadoutInputs& in, const OffsetReadoutGrads& grads) {
  if (in.z.dtype() == Dtype::kBf16) return backward_tiles<float, bf16>(in, grads);
  with_compute_type(in.z.dtype(), [&](auto t) { backward_tiles<decltype(t), decltype(t)>(in, grads); });
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
MOLT_KERNELS(offset_readout_kernels, Device::kCpu, {MOLT_BEST_TARGET(forward), MOLT_BEST_TARGET(backward)});
}  // namespace molt::ops
#endif

// What both directions of the selective scan share on the CPU: sizes, transposed views of (E, N) tensors, the decay.
// Channels lie across the lanes of a vector (a block), states are separate vectors. States are padded to groups of four
// and channels to whole blocks, with zeros that stay zero.
#if defined(MOLT_OPS_SCAN_COMMON_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MOLT_OPS_SCAN_COMMON_INL_H_
#undef MOLT_OPS_SCAN_COMMON_INL_H_
#else
#define MOLT_OPS_SCAN_COMMON_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <vector>

#include "molt/ops/scan.h"
#include "molt/ops/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace molt::ops::HWY_NAMESPACE {
namespace {

constexpr int64_t kChunk = 16;       // tokens between saved states; what backward recomputes fits the first-level cache
constexpr int64_t kGroup = 4;        // states that backward treats together
constexpr int64_t kPair = 2;         // blocks that backward treats together
constexpr int64_t kGrain = 1 << 15;  // tokens · channels · states below which a second thread costs more than it brings

/// Rows of states by token: B or C with its columns padded to whole groups.
template <class T>
struct TokenRows {
  Tensor owner;
  const T* data;
  int64_t ld;

  TokenRows(const Tensor& from, int64_t padded) : owner(from), data(from.data<T>()), ld(from.ld()) {
    const int64_t count = from.dim(1);
    if (count == padded) return;
    owner = Tensor::zeros({from.dim(0), padded}, from.dtype());
    for (int64_t t = 0; t < from.dim(0); ++t)
      std::copy_n(from.data<T>() + t * from.ld(), count, owner.data<T>() + t * padded);
    data = owner.data<T>(), ld = padded;
  }
  const T* row(int64_t t) const { return data + t * ld; }
};

/// Fetches what the next chunk needs of several matrices over tokens into the second-level cache, a little at a time.
/// The rows of a block lie a page or more apart, where no hardware looks ahead.
class RowPrefetch {
 public:
  /// Adds `bytes` of each of `rows` rows.
  template <class T>
  void add(const Tensor& t, int64_t first, int64_t rows, int64_t at, int64_t bytes) {
    if (!t.defined()) return;
    const char* base = reinterpret_cast<const char*>(t.data<T>() + first * t.ld() + at);
    for (int64_t line = 0; line < bytes; line += kLine)
      streams_[count_++] = {base + line, t.ld() * static_cast<int64_t>(sizeof(T)), rows};
  }
  /// Adds contiguous memory.
  template <class T>
  void add(const T* from, int64_t count) {
    streams_[count_++] = {reinterpret_cast<const char*>(from), kLine, count * static_cast<int64_t>(sizeof(T)) / kLine};
  }
  /// Fetches four lines.
  HWY_INLINE void step() {
    if (at_ == count_) return;
    Stream& s = streams_[at_];
    for (int i = 0; i < 4; ++i, s.next += s.stride) __builtin_prefetch(s.next, 0, 2);
    s.rows -= 4;
    at_ += s.rows <= 0;
  }

 private:
  static constexpr int64_t kLine = 64;
  struct Stream {
    const char* next;
    int64_t stride, rows;
  };
  int count_ = 0, at_ = 0;
  Stream streams_[32];
};

template <class T>
struct Sizes {
  int64_t tokens, channels, states;
  int64_t padded_states;             // whole groups
  int64_t lanes, blocks;             // blocks: whole pairs
  std::vector<int64_t> first_chunk;  // of each segment; the last entry is their number

  explicit Sizes(const ScanTensors& in)
      : tokens(in.x.dim(0)),
        channels(in.x.dim(1)),
        states(in.A_log.dim(1)),
        padded_states((states + kGroup - 1) / kGroup * kGroup),
        lanes(static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()))),
        blocks((channels + kPair * lanes - 1) / (kPair * lanes) * kPair),
        first_chunk{0} {
    for (int64_t s = 0; s < in.segments->count(); ++s)
      first_chunk.push_back(first_chunk.back() + (in.segments->length(s) + kChunk - 1) / kChunk);
  }
  int64_t block_states() const { return padded_states * lanes; }  // numbers in the state of one block
  int64_t vector_bytes() const { return lanes * static_cast<int64_t>(sizeof(T)); }
  int64_t first_channel(int64_t block) const { return block * lanes; }
  /// Channels of a block that exist.
  int64_t live(int64_t block) const { return std::clamp<int64_t>(channels - block * lanes, 0, lanes); }
  /// Where the state of `block` at the start of `chunk` is saved.
  int64_t saved_at(int64_t chunk, int64_t block) const { return (chunk * blocks + block) * block_states(); }
};

#if HWY_TARGET != HWY_SCALAR
/// to[j][i] = from[i][j] for four rows of four, or added to what is there.
template <bool kAdd>
HWY_INLINE void transpose_four(const float* HWY_RESTRICT from, int64_t from_ld, float* HWY_RESTRICT to, int64_t to_ld) {
  const hn::Full128<float> d;
  const hn::Full128<double> wide;
  const auto v0 = hn::LoadU(d, from), v1 = hn::LoadU(d, from + from_ld), v2 = hn::LoadU(d, from + 2 * from_ld),
             v3 = hn::LoadU(d, from + 3 * from_ld);
  const auto a = hn::BitCast(wide, hn::InterleaveLower(d, v0, v1));
  const auto b = hn::BitCast(wide, hn::InterleaveLower(d, v2, v3));
  const auto e = hn::BitCast(wide, hn::InterleaveUpper(d, v0, v1));
  const auto f = hn::BitCast(wide, hn::InterleaveUpper(d, v2, v3));
  auto put = [&](int64_t row, hn::Vec<decltype(wide)> v) HWY_ATTR {
    const auto sum = hn::BitCast(d, v);
    hn::StoreU(kAdd ? hn::Add(sum, hn::LoadU(d, to + row * to_ld)) : sum, d, to + row * to_ld);
  };
  put(0, hn::InterleaveLower(wide, a, b));
  put(1, hn::InterleaveUpper(wide, a, b));
  put(2, hn::InterleaveLower(wide, e, f));
  put(3, hn::InterleaveUpper(wide, e, f));
}
#endif

/// to[j][i] = from[i][j], or added to what is there, for `rows` rows of `cols` numbers.
template <bool kAdd, class T>
void transpose(int64_t rows, int64_t cols, const T* HWY_RESTRICT from, int64_t from_ld, T* HWY_RESTRICT to,
               int64_t to_ld) {
#if HWY_TARGET != HWY_SCALAR
  if constexpr (sizeof(T) == 4) {
    if (rows % 4 == 0 && cols % 4 == 0) {
      for (int64_t i = 0; i < rows; i += 4) {
        for (int64_t j = 0; j < cols; j += 4)
          transpose_four<kAdd>(from + i * from_ld + j, from_ld, to + j * to_ld + i, to_ld);
      }
      return;
    }
  }
#endif
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) {
      T& target = to[j * to_ld + i];
      target = from[i * from_ld + j] + (kAdd ? target : T(0));
    }
  }
}

/// One block of an (E, N) matrix, state by state: to[n][lane] = from[channel][n], zeros where there is none.
template <class T>
void load_block(const Sizes<T>& sizes, int64_t block, const T* from, T* to) {
  const int64_t live = sizes.live(block);
  if (live < sizes.lanes || sizes.states < sizes.padded_states) std::fill_n(to, sizes.block_states(), T(0));
  transpose<false>(live, sizes.states, from + sizes.first_channel(block) * sizes.states, sizes.states, to, sizes.lanes);
}

template <class T>
void store_block(const Sizes<T>& sizes, int64_t block, const T* from, bool accumulate, T* to) {
  const int64_t live = sizes.live(block), states = sizes.states;
  to += sizes.first_channel(block) * states;
  accumulate ? transpose<true>(states, live, from, sizes.lanes, to, states)
             : transpose<false>(states, live, from, sizes.lanes, to, states);
}

/// Decays are powers of two in f32: rates are A · log2(e) there, and A itself in f64.
template <class T>
constexpr T kRateUnit = sizeof(T) == 4 ? T(1.44269504088896340736) : T(1);

/// The rates of one block: -exp(A_log) · kRateUnit; zero for padded states.
template <class T>
void load_rates(const Sizes<T>& sizes, int64_t block, const Tensor& A_log, T* rates) {
  const hn::ScalableTag<T> d;
  load_block(sizes, block, A_log.data<T>(), rates);
  for (int64_t n = 0; n < sizes.padded_states; n += kGroup) {
    T* at = rates + n * sizes.lanes;
    hn::Vec<decltype(d)> v[kGroup];
    MOLT_EACH(kGroup) v[i] = at_most(d, T(80), hn::LoadU(d, at + i * sizes.lanes));
    exp_each(d, v);
    MOLT_EACH(kGroup) hn::StoreU(hn::Mul(v[i], hn::Set(d, -kRateUnit<T>)), d, at + i * sizes.lanes);
  }
  std::fill(rates + sizes.states * sizes.lanes, rates + sizes.block_states(), T(0));
}

/// exp(Δ A), given Δ and the rate.
template <class D>
HWY_INLINE hn::Vec<D> decay(D d, hn::Vec<D> dt, hn::Vec<D> rate) {
  if constexpr (sizeof(hn::TFromD<D>) == 8) {
    return accurate_exp(d, hn::Mul(dt, rate));
  } else {
    // 2^y = 2^floor(v) · q(v - floor(v)) with v = y + s, at no cost as y + s is one fused multiply-add. q is minimax in
    // relative error (7.5e-8); s is one of its exact points, so that decays near one are good to half a unit, which
    // long memories need.
    const auto v = hn::MulAdd(dt, rate, hn::Set(d, 0.606003555f));
#if HWY_TARGET == HWY_AVX3
    const hn::Vec<D> f{_mm512_reduce_ps(v.raw, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)};
#else
    const auto above = at_least(d, -126.0f, v), n = hn::Floor(above);
    auto f = hn::Sub(above, n);
    // Emulated, the product is rounded by itself; so that the sum is not rounded as coarsely, the floor goes first.
    if constexpr (kEmulated)
      f = hn::Add(hn::Sub(at_least(d, -126.606f, hn::Mul(dt, rate)), n), hn::Set(d, 0.606003555f));
#endif
    auto q = hn::MulAdd(hn::Set(d, 0.00123359449f), f, hn::Set(d, 0.00590612413f));
    q = hn::MulAdd(q, f, hn::Set(d, 0.036678683f));
    q = hn::MulAdd(q, f, hn::Set(d, 0.157784343f));
    q = hn::MulAdd(q, f, hn::Set(d, 0.455411404f));
    q = hn::MulAdd(q, f, hn::Set(d, 0.657014132f));
#if HWY_TARGET == HWY_AVX3
    return hn::Vec<D>{_mm512_scalef_ps(q.raw, v.raw)};  // takes the floor itself
#else
    return detail::times_power_of_two(d, q, n);
#endif
  }
}

}  // namespace
}  // namespace molt::ops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggled include guard

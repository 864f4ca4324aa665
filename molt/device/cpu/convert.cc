// Conversions between element types on the CPU.
#include "molt/device/convert.h"

#include <cstring>

#include "molt/device/cpu/parallel.h"

#include "molt/device/cpu/simd.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "molt/device/cpu/convert.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace molt::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

constexpr hn::ScalableTag<float> kFloats{};
constexpr hn::RebindToUnsigned<hn::ScalableTag<float>> kWords{};
constexpr hn::Rebind<uint16_t, hn::ScalableTag<float>> kHalves{};
using Floats = hn::Vec<hn::ScalableTag<float>>;

HWY_INLINE Floats load(const float* p) { return hn::LoadU(kFloats, p); }
HWY_INLINE Floats load(const bf16* p) {
  const auto halves = hn::LoadU(kHalves, reinterpret_cast<const uint16_t*>(p));
  return hn::BitCast(kFloats, hn::ShiftLeft<16>(hn::PromoteTo(kWords, halves)));
}
HWY_INLINE void store(Floats v, float* p) { hn::StoreU(v, kFloats, p); }
HWY_INLINE void store(Floats v, bf16* p) {
  const auto u = hn::BitCast(kWords, v);
  const auto lowest = hn::And(hn::ShiftRight<16>(u), hn::Set(kWords, 1));
  const auto rounded = hn::Add(u, hn::Add(lowest, hn::Set(kWords, 0x7fff)));
  const auto quiet = hn::Or(u, hn::Set(kWords, 0x400000));
  const auto bits = hn::IfThenElse(hn::RebindMask(kWords, hn::IsNaN(v)), quiet, rounded);
  hn::StoreU(hn::TruncateTo(kHalves, hn::ShiftRight<16>(bits)), kHalves, reinterpret_cast<uint16_t*>(p));
}

template <bool kAdd, class From, class To>
void row(const From* from, To* to, int64_t n) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(kFloats));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) store(kAdd ? hn::Add(load(to + i), load(from + i)) : load(from + i), to + i);
  for (; i < n; ++i) to[i] = static_cast<To>(static_cast<float>(from[i]) + (kAdd ? static_cast<float>(to[i]) : 0.0f));
}

template <bool kAdd>
bool fast_row(Dtype from_type, const void* from, Dtype to_type, void* to, int64_t n) {
  const bool from_bf16 = from_type == Dtype::kBf16, to_bf16 = to_type == Dtype::kBf16;
  if ((!from_bf16 && from_type != Dtype::kF32) || (!to_bf16 && to_type != Dtype::kF32)) return false;
  if (from_bf16 && to_bf16)
    row<kAdd>(static_cast<const bf16*>(from), static_cast<bf16*>(to), n);
  else if (from_bf16)
    row<kAdd>(static_cast<const bf16*>(from), static_cast<float*>(to), n);
  else if (to_bf16)
    row<kAdd>(static_cast<const float*>(from), static_cast<bf16*>(to), n);
  else
    row<kAdd>(static_cast<const float*>(from), static_cast<float*>(to), n);
  return true;
}

bool copy_row(Dtype from_type, const void* from, Dtype to_type, void* to, int64_t n) {
  return fast_row<false>(from_type, from, to_type, to, n);
}
bool add_row(Dtype from_type, const void* from, Dtype to_type, void* to, int64_t n) {
  return fast_row<true>(from_type, from, to_type, to, n);
}

}  // namespace
}  // namespace molt::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace molt {
namespace {
HWY_EXPORT(copy_row);
HWY_EXPORT(add_row);
using RowFunction = bool (*)(Dtype, const void*, Dtype, void*, int64_t);

double get(Dtype dtype, const void* data, int64_t i) {
  switch (dtype) {
    case Dtype::kF64:
      return static_cast<const double*>(data)[i];
    case Dtype::kBf16:
      return static_cast<float>(static_cast<const bf16*>(data)[i]);
    case Dtype::kF16:
      return static_cast<float>(static_cast<const f16*>(data)[i]);
    default:
      MOLT_CHECK(dtype == Dtype::kF32, "convert: no conversion from ", dtype_name(dtype));
      return static_cast<const float*>(data)[i];
  }
}

void put(Dtype dtype, void* data, int64_t i, double value) {
  switch (dtype) {
    case Dtype::kF64:
      static_cast<double*>(data)[i] = value;
      break;
    case Dtype::kBf16:
      static_cast<bf16*>(data)[i] = bf16(static_cast<float>(value));
      break;
    case Dtype::kF16:
      static_cast<f16*>(data)[i] = f16(static_cast<float>(value));
      break;
    default:
      MOLT_CHECK(dtype == Dtype::kF32, "convert: no conversion to ", dtype_name(dtype));
      static_cast<float*>(data)[i] = static_cast<float>(value);
  }
}

// Work is split by elements of the dense order, so that one long row uses all cores too.
constexpr int64_t kGrain = 1 << 14;

void for_each_piece(const ConstMatrix& from, const Matrix& to, bool add, RowFunction fast) {
  MOLT_CHECK(from.rows == to.rows && from.cols == to.cols, "convert: from (", from.rows, ", ", from.cols, ") to (",
             to.rows, ", ", to.cols, ")");
  const bool dense = from.dense() && to.dense();
  const int64_t rows = dense ? 1 : from.rows, cols = dense ? from.rows * from.cols : from.cols;
  parallel_ranges(rows * cols, kGrain, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t r = begin / cols, c = begin % cols, n = std::min(cols - c, end - begin);
      const void* in =
          static_cast<const char*>(from.data) + static_cast<size_t>(r * from.ld + c) * dtype_size(from.dtype);
      void* out = static_cast<char*>(to.data) + static_cast<size_t>(r * to.ld + c) * dtype_size(to.dtype);
      if (from.dtype == to.dtype && !add)
        std::memmove(out, in, static_cast<size_t>(n) * dtype_size(to.dtype));
      else if (!fast(from.dtype, in, to.dtype, out, n))
        for (int64_t i = 0; i < n; ++i)
          put(to.dtype, out, i, get(from.dtype, in, i) + (add ? get(to.dtype, out, i) : 0.0));
      begin += n;
    }
  });
}

}  // namespace

void convert(const ConstMatrix& from, const Matrix& to) {
  static const RowFunction fast = MOLT_BEST_TARGET(copy_row);
  for_each_piece(from, to, false, fast);
}

void convert_add(const ConstMatrix& from, const Matrix& to) {
  static const RowFunction fast = MOLT_BEST_TARGET(add_row);
  for_each_piece(from, to, true, fast);
}

}  // namespace molt
#endif

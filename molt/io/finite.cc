#include "molt/io/finite.h"

#include <cstdint>

namespace molt::io {
namespace {

/// Whether no element has all bits of `exponent` set, which is what NaN and infinity have. Without branches, so that
/// compilers vectorise it.
template <class Bits>
bool finite_row(const Bits* bits, int64_t n, Bits exponent) {
  Bits bad = 0;
  for (int64_t i = 0; i < n; ++i) bad |= static_cast<Bits>((bits[i] & exponent) == exponent);
  return bad == 0;
}

template <class Bits>
bool finite(const Tensor& t, Bits exponent) {
  const auto* bits = static_cast<const Bits*>(t.raw());
  if (t.contiguous()) return finite_row(bits, t.numel(), exponent);
  for (int64_t r = 0; r < t.rows(); ++r)
    if (!finite_row(bits + r * t.ld(), t.cols(), exponent)) return false;
  return true;
}

}  // namespace

bool is_float(Dtype dtype) {
  return dtype == Dtype::kF64 || dtype == Dtype::kF32 || dtype == Dtype::kBf16 || dtype == Dtype::kF16;
}

bool all_finite(const Tensor& t) {
  switch (t.dtype()) {
    case Dtype::kF64:
      return finite<uint64_t>(t, 0x7ff0000000000000);
    case Dtype::kF32:
      return finite<uint32_t>(t, 0x7f800000);
    case Dtype::kBf16:
      return finite<uint16_t>(t, 0x7f80);
    case Dtype::kF16:
      return finite<uint16_t>(t, 0x7c00);
    default:
      return true;
  }
}

}  // namespace molt::io

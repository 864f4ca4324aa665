// Element types, and how a 16-bit float becomes a float and back.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "molt/base/error.h"

namespace molt {

enum class Dtype { kF32, kF64, kBf16, kF16, kI32, kI64, kI8, kU8 };

/// Bytes per element.
constexpr size_t dtype_size(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF64:
    case Dtype::kI64:
      return 8;
    case Dtype::kF32:
    case Dtype::kI32:
      return 4;
    case Dtype::kBf16:
    case Dtype::kF16:
      return 2;
    default:
      return 1;
  }
}

/// "f32", "bf16", …: the words of recipes and messages.
constexpr const char* dtype_name(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF32:
      return "f32";
    case Dtype::kF64:
      return "f64";
    case Dtype::kBf16:
      return "bf16";
    case Dtype::kF16:
      return "f16";
    case Dtype::kI32:
      return "i32";
    case Dtype::kI64:
      return "i64";
    case Dtype::kI8:
      return "i8";
    default:
      return "u8";
  }
}

/// The upper half of a float. Rounds to nearest, ties to even; NaN stays NaN.
struct bf16 {
  uint16_t bits = 0;
  bf16() = default;
  explicit bf16(float value) {
    const uint32_t u = std::bit_cast<uint32_t>(value);
    bits = value != value ? static_cast<uint16_t>((u >> 16) | 0x40)
                          : static_cast<uint16_t>((u + 0x7fff + ((u >> 16) & 1)) >> 16);
  }
  explicit operator float() const { return std::bit_cast<float>(uint32_t{bits} << 16); }
};

/// IEEE half precision, read from checkpoints and widened.
struct f16 {
  uint16_t bits = 0;
  f16() = default;
  explicit f16(float value);
  explicit operator float() const {
    const uint32_t sign = uint32_t{bits & 0x8000u} << 16, exponent = (bits >> 10) & 0x1f, mantissa = bits & 0x3ff;
    if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000 | (mantissa << 13));
    if (exponent == 0) {
      const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
      return sign ? -magnitude : magnitude;
    }
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  }
};

template <class T>
inline constexpr Dtype kDtypeOf = Dtype::kU8;
template <>
inline constexpr Dtype kDtypeOf<float> = Dtype::kF32;
template <>
inline constexpr Dtype kDtypeOf<double> = Dtype::kF64;
template <>
inline constexpr Dtype kDtypeOf<bf16> = Dtype::kBf16;
template <>
inline constexpr Dtype kDtypeOf<f16> = Dtype::kF16;
template <>
inline constexpr Dtype kDtypeOf<int32_t> = Dtype::kI32;
template <>
inline constexpr Dtype kDtypeOf<int64_t> = Dtype::kI64;
template <>
inline constexpr Dtype kDtypeOf<int8_t> = Dtype::kI8;

/// Calls f with a value of the C++ type of a floating dtype kernels compute in (f32, f64).
template <class F>
auto with_compute_type(Dtype dtype, F&& f) {
  if (dtype == Dtype::kF64) return f(double{});
  MOLT_CHECK(dtype == Dtype::kF32, "kernel: computes in f32 or f64, got ", dtype_name(dtype));
  return f(float{});
}

}  // namespace molt

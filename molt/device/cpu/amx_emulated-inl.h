// Intel's matrix unit (AMX) and the bf16 instructions that come with it, by AVX-512 alone and many times slower: builds
// with MOLT_EMULATE_AMX run and test what stands on them where processors have neither. Replaces the intrinsics by
// functions that do what Intel's manual (volume 2) says of each, for tiles of 16 rows of 64 bytes, the only ones here.
// Include by tile_blocks-inl.h alone; x86 only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <immintrin.h>

namespace molt::tiles::emulated {
namespace {

/// The eight tiles of a thread.
alignas(64) thread_local uint8_t tiles[8][16][64];

inline void clear_tiles() { std::memset(tiles, 0, sizeof(tiles)); }

inline void load(int tile, const void* from, ptrdiff_t stride) {
  for (int r = 0; r < 16; ++r) std::memcpy(tiles[tile][r], static_cast<const char*>(from) + r * stride, 64);
}
inline void store(int tile, void* to, ptrdiff_t stride) {
  for (int r = 0; r < 16; ++r) std::memcpy(static_cast<char*>(to) + r * stride, tiles[tile][r], 64);
}

/// The even and the odd numbers of 32 in bf16.
inline __m512 even(__m512i pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }
inline __m512 odd(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int32_t>(0xffff0000))));
}
inline __m512i quad(const uint8_t* four) {
  int32_t bits;
  std::memcpy(&bits, four, sizeof(bits));
  return _mm512_set1_epi32(bits);
}

/// sum(m,n) += Σ_k a(m,k) · b(k,n) in bf16: even and odd k apart from zero on, then both to the sum.
inline void multiply_bf16(int sum, int a, int b) {
  for (int m = 0; m < 16; ++m) {
    __m512 evens = _mm512_setzero_ps(), odds = _mm512_setzero_ps();
    for (int k = 0; k < 16; ++k) {
      const __m512i x = quad(tiles[a][m] + 4 * k), y = _mm512_load_si512(tiles[b][k]);
      evens = _mm512_fmadd_ps(even(x), even(y), evens);
      odds = _mm512_fmadd_ps(odd(x), odd(y), odds);
    }
    _mm512_store_ps(tiles[sum][m], _mm512_add_ps(_mm512_load_ps(tiles[sum][m]), _mm512_add_ps(evens, odds)));
  }
}

/// The lower and the upper bytes of 32 words as numbers with a sign.
inline __m512i low_bytes(__m512i words) { return _mm512_srai_epi16(_mm512_slli_epi16(words, 8), 8); }
inline __m512i high_bytes(__m512i words) { return _mm512_srai_epi16(words, 8); }

/// The same in whole numbers of 8 bits with a sign, sums of 32 bits.
inline void multiply_int8(int sum, int a, int b) {
  for (int m = 0; m < 16; ++m) {
    __m512i all = _mm512_load_si512(tiles[sum][m]);
    for (int k = 0; k < 16; ++k) {
      const __m512i x = quad(tiles[a][m] + 4 * k), y = _mm512_load_si512(tiles[b][k]);
      all = _mm512_add_epi32(all, _mm512_madd_epi16(low_bytes(x), low_bytes(y)));
      all = _mm512_add_epi32(all, _mm512_madd_epi16(high_bytes(x), high_bytes(y)));
    }
    _mm512_store_si512(tiles[sum][m], all);
  }
}

/// 16 numbers to bf16, to nearest and to even between two; a NaN stays one; below the smallest normal number: zero.
inline __m256i to_bf16(__m512 v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i last = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(last, _mm512_set1_epi32(0x7fff)));
  __m512i out = _mm512_srli_epi32(up, 16);
  const __mmask16 tiny = _mm512_cmp_ps_mask(_mm512_abs_ps(v), _mm512_set1_ps(0x1p-126f), _CMP_LT_OQ);
  out = _mm512_mask_and_epi32(out, tiny, out, _mm512_set1_epi32(0x8000));
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  out = _mm512_mask_or_epi32(out, nan, _mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x40));
  return _mm512_cvtepi32_epi16(out);
}
inline __m512i to_bf16(__m512 high, __m512 low) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(to_bf16(low)), to_bf16(high), 1);
}

inline __m512 add_products(__m512 sum, __m512i a, __m512i b) {
  return _mm512_fmadd_ps(even(a), even(b), _mm512_fmadd_ps(odd(a), odd(b), sum));
}

}  // namespace
}  // namespace molt::tiles::emulated

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#undef _tile_dpbssd
#define _tile_loadd(tile, from, stride) molt::tiles::emulated::load(tile, from, stride)
#define _tile_stored(tile, to, stride) molt::tiles::emulated::store(tile, to, stride)
#define _tile_zero(tile) std::memset(molt::tiles::emulated::tiles[tile], 0, 1024)
#define _tile_release() molt::tiles::emulated::clear_tiles()
#define _tile_dpbf16ps(sum, a, b) molt::tiles::emulated::multiply_bf16(sum, a, b)
#define _tile_dpbssd(sum, a, b) molt::tiles::emulated::multiply_int8(sum, a, b)
#define _mm512_cvtne2ps_pbh(high, low) molt::tiles::emulated::to_bf16(high, low)
#define _mm512_cvtneps_pbh(v) molt::tiles::emulated::to_bf16(v)
#define _mm512_dpbf16_ps(sum, a, b) \
  molt::tiles::emulated::add_products(sum, reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b))

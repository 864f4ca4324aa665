// Counter-based random numbers: Philox 4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).
// A draw is a pure function of its key and counter, never of how many draws came before, so recomputation, resumption
// and any thread order see the same numbers.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>

namespace molt {

/// Ten rounds of Philox on four 32-bit counters under a 64-bit key.
inline std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, uint64_t key) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * counter[0], p1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ k0, static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return counter;
}

/// FNV-1a, to turn a name (a site path) into part of a key.
constexpr uint64_t hash_name(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

/// Mixes two words into a key (SplitMix64's finaliser).
constexpr uint64_t mix_keys(uint64_t a, uint64_t b) {
  uint64_t x = a + 0x9E3779B97F4A7C15 * (b + 1);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

/// A stream of draws addressed by position.
class Rng {
 public:
  explicit Rng(uint64_t key) : key_(key) {}
  Rng(uint64_t seed, std::string_view name) : key_(mix_keys(seed, hash_name(name))) {}

  /// 32 random bits at a position.
  uint32_t bits(uint64_t position) const {
    const uint64_t block = position / 4;
    return philox({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 0}, key_)[position % 4];
  }
  /// Uniform in [0, 1), 24 bits.
  double uniform(uint64_t position) const { return (bits(position) >> 8) * 0x1p-24; }
  /// Standard normal (Box-Muller on two independent draws).
  double normal(uint64_t position) const {
    const double u = ((bits(2 * position) >> 8) + 1) * 0x1p-24, v = uniform(2 * position + 1);
    return std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v);
  }
  /// Uniform integer in [0, n), n < 2^32.
  uint32_t below(uint64_t position, uint32_t n) const {
    return static_cast<uint32_t>((uint64_t{bits(position)} * n) >> 32);
  }
  uint64_t key() const { return key_; }

 private:
  uint64_t key_;
};

}  // namespace molt

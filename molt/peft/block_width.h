// How methods that act block by block divide a width.
#pragma once

#include <cstdint>

namespace molt::peft {

/// The divisor of n nearest to `wanted`, the lower one of two as near; as PEFT adjusts it.
inline int64_t nearest_divisor(int64_t n, int64_t wanted) {
  if (wanted >= n) return n;
  int64_t higher = wanted, lower = wanted;
  while (higher <= n && n % higher != 0) ++higher;
  while (lower > 1 && n % lower != 0) --lower;
  return wanted - lower <= higher - wanted ? lower : higher;
}

}  // namespace molt::peft

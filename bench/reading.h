// How fast this machine's threads together read memory that no cache holds: the ceiling of decoding one sequence, which
// reads every weight once per token.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "molt/tensor/tensor.h"

namespace molt::bench {

/// Bytes per second of the fastest of `repeats` walks over 256 MiB, one number of every cache line.
inline double reading_speed(int repeats = 8) {
  const Tensor large = Tensor::zeros({int64_t{1} << 26}, Dtype::kF32);
  float* p = large.data<float>();
  double best = 1e300;
  volatile double sink = 0;  // or nothing would be read
  for (int r = 0; r <= repeats; ++r) {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    double total = 0;
#pragma omp parallel for reduction(+ : total) schedule(static)
    for (int64_t i = 0; i < large.numel(); i += 1024) {
      float part = 0;
      for (int64_t j = 0; j < 1024; j += 16) part += p[i + j];
      total += static_cast<double>(part);
    }
    sink = sink + total;
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (r > 0) best = std::min(best, seconds);
  }
  return static_cast<double>(large.bytes()) / best;
}

}  // namespace molt::bench

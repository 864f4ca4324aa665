// What the processor offers to matrix products and vector kernels, as the libraries that use it see it.
#pragma once

#include <string>

namespace molt {

struct CpuInfo {
  std::string simd;    ///< instruction set of our own kernels: "AVX-512", else Highway's name, such as "NEON"
  std::string matmul;  ///< instruction set of oneDNN's products, such as "avx512_core_amx"
  std::string onednn;  ///< oneDNN's version, such as "2.6.3"
  bool bf16 = false;   ///< products of bf16 numbers run natively
  bool amx = false;    ///< … on matrix tiles
  bool int8 = false;   ///< products of 8-bit integers run natively, on matrix tiles or AVX-512 with VNNI
  /// Frozen weights lie as they are, once for both directions: f32, bf16 or 8 bits, all multiplied in f32.
  bool plain_weights = false;
  int threads = 1;  ///< threads that work is split over now: OMP_NUM_THREADS or set_compute_threads()
};

CpuInfo cpu_info();

/// Whether products with bf16 operands run natively. Where they do not, PackedMatrix computes in f32 on values rounded
/// to bf16.
bool bf16_supported();

/// Threads that kernels split their work over. The bits of results may depend on it.
int compute_threads();
void set_compute_threads(int threads);

}  // namespace molt

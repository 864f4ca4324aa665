// Which instruction sets CPU kernels are compiled for. Include before hwy/foreach_target.h.
#pragma once

#include <hwy/detect_targets.h>

// Baseline, AVX2 and AVX-512 on x86; NEON on Arm. What is left out costs compile time and covers machines that one of
// these serves as well. SVE vectors have no fixed size and cannot be held in arrays.
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)

namespace molt {
/// Settles which instruction set Highway kernels use: the best one, or less where MOLT_SIMD is "avx2" or "baseline" (to
/// test on one machine what others will run). "avx512" means the best one too; only products then leave AMX alone.
void choose_simd_target();
}  // namespace molt

/// The version of an HWY_EXPORTed function for this processor, for a kernel table.
#define MOLT_BEST_TARGET(function) (::molt::choose_simd_target(), &HWY_DYNAMIC_DISPATCH(function))

// What Highway and oneDNN found on this processor.
#include "molt/device/cpu_info.h"

#include <cstdlib>
#include <string_view>

#include "molt/base/str.h"
#include "molt/device/cpu/dnnl.h"
#include "molt/device/cpu/fetch.h"
#include "molt/device/cpu/parallel.h"
#include "molt/device/cpu/tile_gemm.h"

#include "molt/device/cpu/simd.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "molt/device/cpu/cpu_info.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace molt::HWY_NAMESPACE {
namespace {
const char* target_name() { return hwy::TargetName(HWY_TARGET); }
}  // namespace
}  // namespace molt::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace molt {
namespace {
HWY_EXPORT(target_name);

int64_t chosen_targets() {
  const char* wish = std::getenv("MOLT_SIMD");
  const std::string_view level = wish ? wish : "";
  int64_t unwanted = 0;
#if HWY_ARCH_X86
  if (level == "avx2") unwanted = HWY_AVX2 - 1;  // better targets have lower bits
  if (level == "baseline") unwanted = 2 * HWY_AVX2 - 1;
#endif
  return hwy::SupportedTargets() & ~unwanted;
}
}  // namespace

void choose_simd_target() {
  static const int64_t targets = chosen_targets();
  hwy::GetChosenTarget().Update(targets);
}

CpuInfo cpu_info() {
  CpuInfo info;
  info.simd = (*MOLT_BEST_TARGET(target_name))();
  if (info.simd == "AVX3") info.simd = "AVX-512";
#if HWY_ARCH_X86
  info.matmul = onednn::isa_name();
#else
  info.matmul = HWY_ARCH_ARM_A64 ? "aarch64" : "generic";  // oneDNN has names for x86 alone
#endif
  const dnnl_version_t* v = dnnl_version();
  info.onednn = str(v->major, '.', v->minor, '.', v->patch);
  info.bf16 = bf16_supported();
  info.amx = tiles::unit_available();
  info.int8 = tiles::int8_available();
  info.plain_weights = onednn::likes_plain_weights();
  info.threads = compute_threads();
  return info;
}

bool bf16_supported() { return tiles::bf16_available(); }

bool fetches_to_second_level() {
#if HWY_ARCH_X86
  static const bool amd = __builtin_cpu_is("amd") != 0;
  return amd;
#else
  return false;
#endif
}

int compute_threads() { return thread_count(); }
void set_compute_threads(int threads) {
  MOLT_CHECK(threads >= 1, "threads: must be at least 1, got ", threads);
  set_thread_count(threads);
}

}  // namespace molt
#endif

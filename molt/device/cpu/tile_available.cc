// Whether the matrix unit and the vectors of 8-bit integers may be used. Compiled for any processor, as it is asked on
// any.
#include <cstdlib>
#include <string_view>

#include "molt/device/cpu/dnnl.h"
#include "molt/device/cpu/tile_gemm.h"

#include <hwy/detect_compiler_arch.h>

#if HWY_ARCH_X86
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace molt::tiles {
namespace {

bool ask_vnni() {
#if HWY_ARCH_X86
  const char* wish = std::getenv("MOLT_SIMD");
  if (wish && *wish && std::string_view(wish) != "avx512") return false;
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

bool ask_bf16() {
#if HWY_ARCH_X86
#ifdef MOLT_EMULATE_AMX
  return ask_vnni();
#else
  return __builtin_cpu_supports("avx512bf16") && ask_vnni();
#endif
#else
  return false;
#endif
}

bool ask_pairs() {
#if HWY_ARCH_X86
  const char* wish = std::getenv("MOLT_BF16");
  if (wish && *wish) return std::string_view(wish) != "widened";
  return !__builtin_cpu_is("intel");
#else
  return false;
#endif
}

bool ask_unit() {
#if HWY_ARCH_X86
  const char* wish = std::getenv("MOLT_SIMD");
  if (wish && *wish) return false;
#ifdef MOLT_EMULATE_AMX
  return ask_vnni();
#else
  if (!onednn::has_amx() || !ask_bf16()) return false;
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM: the kernel must save larger registers
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#endif
#else
  return false;
#endif
}

}  // namespace

bool unit_available() {
  static const bool answer = ask_unit();
  return answer;
}

bool bf16_available() {
  static const bool answer = ask_bf16();
  return answer;
}

bool pairs_are_fast() {
  static const bool answer = ask_pairs();
  return answer;
}

bool int8_available() {
  static const bool answer = ask_vnni();
  return answer;
}

}  // namespace molt::tiles

#include "molt/app/doctor.h"

#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "molt/app/calibrate.h"
#include "molt/base/error.h"
#include "molt/base/format.h"
#include "molt/base/system.h"
#include "molt/device/cpu_info.h"
#include "molt/ops/scan.h"

namespace molt::app {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kGiB = int64_t{1} << 30;

Finding processor() {
  const CpuInfo cpu = cpu_info();
  Finding f{"processor", Health::kOk, str(cpu_model(), ", kernels for ", cpu.simd), ""};
  if (const char* wish = std::getenv("MOLT_SIMD")) {
    f.health = Health::kNote;
    f.advice = str("MOLT_SIMD=", wish, " holds the kernels back; unset it for the best this processor has");
  } else if (cpu.simd.rfind("SSE", 0) == 0 || cpu.simd == "EMU128" || cpu.simd == "SCALAR") {
    f.health = Health::kNote;
    f.advice = "no AVX2: vector kernels are several times slower here";
  }
  return f;
}

Finding products() {
  const CpuInfo cpu = cpu_info();
  Finding f{"products", Health::kOk, str("oneDNN ", cpu.onednn, " with ", cpu.matmul), ""};
  if (cpu.bf16) {
    f.text += str(", bf16 natively", cpu.amx ? " on AMX tiles" : "");
    if (cpu.int8) f.text += ", int8 natively";
  } else {
    f.health = Health::kNote;
    f.text += cpu.int8 ? ", int8 natively (VNNI), no native bf16" : ", no native bf16";
    f.advice = "compute and base_dtype are f32 by default; ";
    f.advice += cpu.plain_weights
                    ? "compute=bf16 or base_dtype=int8 is a half or a quarter of the size, trains as fast and "
                      "generates faster"
                    : "bf16 would be rounded, but no faster or smaller";
    if (cpu.int8) f.advice += "; base_dtype=int8 is faster than f32 and a quarter of its size";
  }
  return f;
}

Finding self_check() {
  // Of one product's largest result: f32 rounds at 6e-8, bf16 operands at 4e-3, 8 bits at 4e-3 of a row's largest
  // number, each over 48 terms at most.
  const double f32 = product_error({.compute = Dtype::kF32}), bf16 = product_error({.compute = Dtype::kBf16}),
               int8 = product_error({.compute = Dtype::kI8, .int8 = true});
  Finding f{"self-check", Health::kOk,
            str("products are off by ", format_significant(f32, 2), " in f32, ", format_significant(bf16, 2),
                " in bf16, ", format_significant(int8, 2), " in int8"),
            ""};
  if (!(f32 < 1e-5) || !(bf16 < 2e-2) || !(int8 < 3e-2)) {
    f.health = Health::kProblem;
    f.advice = "that is more than rounding: the product kernels are wrong on this processor; please report it";
  }
  return f;
}

Finding threads() {
  const CoreLimits limits = core_limits();
  const int cores = usable_cores();
  Finding f{"threads", Health::kOk, str(cores, " of ", limits.online, " cores"), ""};
  if (cores < limits.online) {
    f.health = Health::kNote;
    f.text += limits.affinity < limits.online ? str(", the affinity mask holds ", limits.affinity) : "";
    if (limits.quota > 0 && limits.quota < limits.affinity)
      f.text += str(", the cgroup's quota is ", format_significant(limits.quota, 3));
    f.advice = "the rest is kept from this process (taskset, a container or a batch system)";
  }
  if (const char* omp = std::getenv("OMP_NUM_THREADS"))
    f.text += str("; OMP_NUM_THREADS=", omp, " is not heeded, threads in a recipe is");
  return f;
}

Finding load() {
  const double load = load_average();
  const int cores = usable_cores();
  const char* policy = std::getenv("OMP_WAIT_POLICY");
  Finding f{"load", Health::kOk, load < 0 ? "unknown" : str(format_fixed(load, 2), " over the last minute"), ""};
  if (!policy) return f;
  f.text += str(", OMP_WAIT_POLICY ", policy);
  const auto is = [&](const char* lower, const char* upper) {
    return std::string(policy) == lower || std::string(policy) == upper;
  };
  if (is("active", "ACTIVE") && load > 0.5 * cores) {
    f.health = Health::kNote;
    f.advice = "other programs run: without OMP_WAIT_POLICY waiting threads do not keep their cores for long";
  } else if (is("passive", "PASSIVE") && load >= 0 && load < 0.5) {
    f.health = Health::kNote;
    f.advice = "the machine is idle: without OMP_WAIT_POLICY small models are faster";
  }
  return f;
}

Finding memory() {
  const MemoryLimit limit = memory_limit();
  const int64_t available = available_memory();
  Finding f{"memory", Health::kOk,
            str(format_bytes(available), " available of ", format_bytes(limit.bytes), " (", limit.source, ")"), ""};
  if (available < kGiB / 2) {
    f.health = Health::kProblem;
    f.advice = "too little for any but the smallest models; `molt plan RECIPE` says what a run needs";
  } else if (available < 4 * kGiB) {
    f.health = Health::kNote;
    f.advice = "`molt plan RECIPE` says what a run needs; recompute: true and fewer tokens_per_batch need less";
  }
  return f;
}

Finding huge_pages() {
  const std::string mode = huge_page_mode();
  Finding f{"huge pages", Health::kOk, mode.empty() ? "unknown" : mode, ""};
  if (mode == "never") {
    f.health = Health::kNote;
    f.advice = "large models gain some percent with: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
  }
  return f;
}

Finding backends() {
  return {"backends", Health::kOk,
          str("cpu", ops::scan_kernels.has(Device::kCuda) ? ", cuda" : "; cuda is not in this build"), ""};
}

Finding output(const std::string& directory) {
  std::error_code error;
  fs::path at = fs::absolute(directory, error);
  while (!fs::exists(at, error) && at != at.parent_path()) at = at.parent_path();
  Finding f{"runs", Health::kOk, "", ""};
  if (!fs::is_directory(at, error) || ::access(at.c_str(), W_OK | X_OK) != 0) {
    f.health = Health::kProblem;
    f.text = str(at.string(), " cannot be written to");
    f.advice = "give a recipe's output_dir: another place, or start molt in another directory";
    return f;
  }
  try {
    const int64_t free = free_disk_space(directory);
    f.text = str(at.string(), " is writable, ", format_bytes(free), " free");
    if (free < kGiB) {
      f.health = Health::kNote;
      f.advice = "checkpoints of a model that trains whole take 16 bytes per parameter";
    }
  } catch (const SystemError& e) {
    f.health = Health::kNote;
    f.text = e.what();
  }
  return f;
}

Finding product_speed(double seconds) {
  // in_proj of a 130 M model.
  constexpr int64_t T = 512, O = 3072, I = 768;
  auto text = [&](const PackOptions& kept) {
    const ProductRate rate = product_rate(T, O, I, kept, seconds / 3);
    return str(format_si(rate.forward, "FLOP/s"), " forward, ", format_si(rate.backward, "FLOP/s"), " backward");
  };
  std::string found = "f32 " + text({.compute = Dtype::kF32});
  if (bf16_supported()) found += "; bf16 " + text({.compute = Dtype::kBf16});
  if (cpu_info().int8) found += "; int8 " + text({.compute = Dtype::kI8, .int8 = true});
  return {"product speed", Health::kOk, found, ""};
}

}  // namespace

std::vector<Finding> examine_machine(const DoctorOptions& options) {
  set_compute_threads(usable_cores());
  std::vector<Finding> found = {processor(), products(),   threads(),  load(),
                                memory(),    huge_pages(), backends(), output(options.output_dir),
                                self_check()};
  if (options.seconds > 0) {
    found.push_back(product_speed(options.seconds * 0.7));
    found.push_back({"memory speed", Health::kOk,
                     format_si(memory_bandwidth(options.seconds * 0.3), "B/s") + " read and written in copies", ""});
  }
  return found;
}

}  // namespace molt::app

// What this machine and this process are: memory in use and its limit, cores one may use, disk, host, time.
// Goals: honest in containers (the smaller of the machine and its cgroups, v1 and v2) and on any Linux.
// Non-goals: devices, instruction sets (molt/device), anything that changes during a run besides memory use.
#pragma once

#include <cstdint>
#include <ctime>
#include <string>

namespace molt {

/// Resident memory of this process in bytes: now (VmRSS) and at its highest (VmHWM). 0 where /proc cannot be read.
struct ProcessMemory {
  int64_t resident = 0;
  int64_t peak = 0;
};
ProcessMemory process_memory();
/// Starts the peak anew from what is resident now, where the kernel allows it (Linux, /proc/self/clear_refs).
void reset_process_peak();

/// How many bytes this process may use, and who says so ("RAM", "cgroup v1", "cgroup v2").
/// 0 bytes and source "unknown" where nothing could be read.
struct MemoryLimit {
  int64_t bytes = 0;
  std::string source = "unknown";
};

/// The smaller of MemTotal and the tightest cgroup limit on the way from this process' group to the root.
/// `root` is put before /proc and /sys; only tests give one.
MemoryLimit memory_limit(const std::string& root = "");

/// Bytes the machine could still hand out without swapping (MemAvailable), not more than memory_limit(). 0 if unknown.
int64_t available_memory(const std::string& root = "");

/// The processor's name as it calls itself, such as "Intel(R) Xeon(R) Platinum 8488C"; the machine's architecture
/// (such as "aarch64") where it has none.
std::string cpu_model(const std::string& root = "");

/// Cores this process can keep busy: those in its affinity mask, not more than its cgroup CPU quota rounded up. At
/// least 1.
int usable_cores(const std::string& root = "");

/// What usable_cores() is the smallest of: cores that are online, those in the affinity mask, and the cgroup CPU quota
/// in cores (0: none).
struct CoreLimits {
  int online = 1;
  int affinity = 1;
  double quota = 0;
};
CoreLimits core_limits(const std::string& root = "");

/// Programs that ran or wanted to run at a time, averaged over the last minute. Negative where it cannot be told.
double load_average(const std::string& root = "");

/// When the system backs memory with huge pages: "always", "madvise" or "never"; empty where it cannot be told.
std::string huge_page_mode(const std::string& root = "");

/// Bytes an ordinary user can still write on the file system that holds `path`; for a path that does not exist yet,
/// that of its nearest existing parent. Throws SystemError where it cannot be told.
int64_t free_disk_space(const std::string& path);

/// The name of this host; "localhost" where it has none.
std::string host_name();

/// A time in UTC as ISO 8601 with seconds: "2025-03-01T12:00:00Z".
std::string iso_time(std::time_t time);

/// Now, as iso_time().
std::string iso_time_now();

}  // namespace molt

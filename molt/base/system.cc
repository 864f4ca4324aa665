// Reads /proc, /sys/fs/cgroup and a few system calls. Every file is optional: absent means "no limit from there".
#include "molt/base/system.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <vector>

#include "molt/base/error.h"

namespace molt {
namespace {

/// The rest of the first line that starts with `key`, without the colon and the blanks before it.
std::optional<std::string> field(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    if (line.compare(0, key.size(), key) != 0) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const size_t from = line.find_first_not_of(" \t", colon + 1);
    return from == std::string::npos ? std::string() : line.substr(from);
  }
  return std::nullopt;
}

/// A field given in kB, in bytes; 0 where it is absent or not a number.
int64_t kilobytes(const std::string& path, const std::string& key) {
  const std::optional<std::string> text = field(path, key);
  int64_t value = 0;
  if (!text || !(std::istringstream(*text) >> value) || value < 0) return 0;
  return value > std::numeric_limits<int64_t>::max() / 1024 ? 0 : value * 1024;
}

/// Where a controller of this process lives below /sys/fs/cgroup.
struct Group {
  bool v2;
  std::string mount;  // "/sys/fs/cgroup" or "/sys/fs/cgroup/memory"
  std::string path;   // "/a/b", relative to the mount
};

/// The groups that may limit `controller` ("memory" or "cpu"), from /proc/self/cgroup: lines "id:controllers:path".
std::vector<Group> groups(const std::string& root, const std::string& controller) {
  std::vector<Group> found;
  std::ifstream file(root + "/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    if (controllers.empty()) {
      found.push_back({true, root + "/sys/fs/cgroup", path});
      found.push_back({true, root + "/sys/fs/cgroup/unified", path});  // hybrid hierarchies mount v2 there
      continue;
    }
    std::istringstream names(controllers);
    for (std::string name; std::getline(names, name, ',');) {
      if (name != controller) continue;
      found.push_back({false, root + "/sys/fs/cgroup/" + controller, path});
      found.push_back({false, root + "/sys/fs/cgroup/" + controllers, path});
    }
  }
  return found;
}

/// Calls `visit(directory)` for the group and each of its ancestors up to the mount. In a cgroup namespace the path
/// may name directories that are not visible; those are skipped by whoever finds no file in them.
template <class F>
void walk_up(const Group& group, const F& visit) {
  std::string path = group.path;
  for (;;) {
    while (!path.empty() && path.back() == '/') path.pop_back();
    visit(group.mount + path);
    if (path.empty()) return;
    const size_t slash = path.rfind('/');
    path = slash == std::string::npos ? std::string() : path.substr(0, slash);
  }
}

/// The whitespace-separated words of a file; empty where it cannot be read.
std::vector<std::string> words(const std::string& path) {
  std::vector<std::string> out;
  std::ifstream file(path);
  for (std::string word; file >> word;) out.push_back(word);
  return out;
}

/// The number behind a name in a file of such pairs; 0 where there is none.
int64_t entry(const std::string& path, const std::string& name) {
  const std::vector<std::string> all = words(path);
  for (size_t i = 0; i + 1 < all.size(); i += 2) {
    int64_t value = 0;
    if (all[i] == name && std::istringstream(all[i + 1]) >> value) return value;
  }
  return 0;
}

std::optional<int64_t> positive_number(const std::string& word) {
  int64_t value = 0;
  if (!(std::istringstream(word) >> value) || value <= 0) return std::nullopt;  // "max", "-1": no limit
  return value;
}

/// Cores' worth of time per period, the tightest on the way up; nothing where there is no quota.
std::optional<double> cpu_quota(const std::string& root) {
  std::optional<double> least;
  auto take = [&](const std::optional<int64_t>& quota, const std::optional<int64_t>& period) {
    if (!quota || !period) return;
    const double cores = static_cast<double>(*quota) / static_cast<double>(*period);
    least = least ? std::min(*least, cores) : cores;
  };
  for (const Group& group : groups(root, "cpu")) {
    walk_up(group, [&](const std::string& directory) {
      if (group.v2) {
        const std::vector<std::string> max = words(directory + "/cpu.max");
        if (max.size() == 2) take(positive_number(max[0]), positive_number(max[1]));
      } else {
        const std::vector<std::string> quota = words(directory + "/cpu.cfs_quota_us");
        const std::vector<std::string> period = words(directory + "/cpu.cfs_period_us");
        if (quota.size() == 1 && period.size() == 1) take(positive_number(quota[0]), positive_number(period[0]));
      }
    });
  }
  return least;
}

int affinity_cores() {
  // The kernel refuses masks smaller than its own, so grow until it is content.
  for (int cpus = 1024; cpus <= (1 << 20); cpus *= 2) {
    cpu_set_t* mask = CPU_ALLOC(static_cast<size_t>(cpus));
    if (!mask) break;
    const size_t size = CPU_ALLOC_SIZE(static_cast<size_t>(cpus));
    CPU_ZERO_S(size, mask);
    const int refused = ::sched_getaffinity(0, size, mask);
    const int cause = errno, count = refused ? 0 : CPU_COUNT_S(size, mask);
    CPU_FREE(mask);
    if (!refused) return std::max(1, count);
    if (cause != EINVAL) break;
  }
  const long online = ::sysconf(_SC_NPROCESSORS_ONLN);
  return online > 0 ? static_cast<int>(online) : 1;
}

}  // namespace

ProcessMemory process_memory() {
  ProcessMemory use{kilobytes("/proc/self/status", "VmRSS:"), kilobytes("/proc/self/status", "VmHWM:")};
  rusage usage{};  // some sandboxes leave VmHWM out
  if (use.peak == 0 && ::getrusage(RUSAGE_SELF, &usage) == 0) use.peak = int64_t{usage.ru_maxrss} * 1024;
  return use;
}

MemoryLimit memory_limit(const std::string& root) {
  MemoryLimit limit;
  auto take = [&](int64_t bytes, const char* source) {
    if (bytes > 0 && (limit.bytes == 0 || bytes < limit.bytes)) limit = {bytes, source};
  };
  take(kilobytes(root + "/proc/meminfo", "MemTotal:"), "RAM");
  for (const Group& group : groups(root, "memory")) {
    walk_up(group, [&](const std::string& directory) {
      const std::vector<std::string> max = words(directory + (group.v2 ? "/memory.max" : "/memory.limit_in_bytes"));
      if (max.size() == 1) take(positive_number(max[0]).value_or(0), group.v2 ? "cgroup v2" : "cgroup v1");
    });
  }
  return limit;
}

int64_t available_memory(const std::string& root) {
  int64_t available = kilobytes(root + "/proc/meminfo", "MemAvailable:");
  for (const Group& group : groups(root, "memory")) {
    walk_up(group, [&](const std::string& directory) {
      const auto number = [&](const char* v2, const char* v1) -> std::optional<int64_t> {
        const std::vector<std::string> found = words(directory + (group.v2 ? v2 : v1));
        return found.size() == 1 ? positive_number(found[0]) : std::nullopt;
      };
      const std::optional<int64_t> limit = number("/memory.max", "/memory.limit_in_bytes");
      if (!limit) return;
      // Pages of files that nobody has read for a while are given back when memory is asked for.
      const int64_t used = number("/memory.current", "/memory.usage_in_bytes").value_or(0);
      const int64_t idle = entry(directory + "/memory.stat", group.v2 ? "inactive_file" : "total_inactive_file");
      available = std::min(available, std::max<int64_t>(0, *limit - std::max<int64_t>(0, used - idle)));
    });
  }
  return available;
}

std::string cpu_model(const std::string& root) {
  for (const char* key : {"model name", "Model", "cpu model", "uarch"}) {
    const std::optional<std::string> name = field(root + "/proc/cpuinfo", key);
    if (name && !name->empty()) return *name;
  }
  utsname machine{};
  return ::uname(&machine) == 0 && machine.machine[0] ? machine.machine : "unknown";
}

int usable_cores(const std::string& root) {
  int cores = affinity_cores();
  if (const std::optional<double> quota = cpu_quota(root); quota && *quota < cores)
    cores = std::max(1, static_cast<int>(*quota + 0.999));
  return cores;
}

CoreLimits core_limits(const std::string& root) {
  const long online = ::sysconf(_SC_NPROCESSORS_ONLN);
  return {online > 0 ? static_cast<int>(online) : 1, affinity_cores(), cpu_quota(root).value_or(0)};
}

double load_average(const std::string& root) {
  const std::vector<std::string> load = words(root + "/proc/loadavg");
  double value = -1;
  if (load.empty() || !(std::istringstream(load[0]) >> value)) return -1;
  return value;
}

std::string huge_page_mode(const std::string& root) {
  // The one in force stands in brackets: "always [madvise] never".
  for (const std::string& word : words(root + "/sys/kernel/mm/transparent_hugepage/enabled")) {
    if (word.size() > 2 && word.front() == '[' && word.back() == ']') return word.substr(1, word.size() - 2);
  }
  return "";
}

int64_t free_disk_space(const std::string& path) {
  std::error_code error;
  std::filesystem::path at = std::filesystem::absolute(path, error);
  if (error) system_error(path, ": free disk space cannot be told: ", error.message());
  for (;;) {
    struct statvfs info {};
    if (::statvfs(at.c_str(), &info) == 0)
      return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
    if ((errno != ENOENT && errno != ENOTDIR) || at == at.parent_path())
      system_error(path, ": free disk space cannot be told: ", std::strerror(errno));
    at = at.parent_path();
  }
}

std::string host_name() {
  char name[256] = {};
  if (::gethostname(name, sizeof name - 1) != 0 || !name[0]) return "localhost";
  return name;
}

std::string iso_time(std::time_t time) {
  std::tm utc{};
  char text[64];
  if (!::gmtime_r(&time, &utc)) return "unknown";
  return std::string(text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc));
}

std::string iso_time_now() { return iso_time(std::time(nullptr)); }

void reset_process_peak() {
  std::ofstream refs("/proc/self/clear_refs");
  refs << "5";
}

}  // namespace molt

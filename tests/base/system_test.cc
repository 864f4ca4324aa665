// The machine as seen through made-up /proc and /sys trees, and the real one for what can be checked there.
#include "molt/base/system.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "molt/base/error.h"

namespace molt {
namespace {

namespace fs = std::filesystem;

/// A directory with files at chosen paths, removed at the end.
class FakeRoot {
 public:
  FakeRoot() : path_(fs::temp_directory_path() / str("molt_system_", ::getpid(), "_", counter_++)) {}
  ~FakeRoot() { fs::remove_all(path_); }
  void put(const std::string& name, const std::string& text) {
    fs::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << text;
  }
  std::string path() const { return path_.string(); }

 private:
  static inline int counter_ = 0;
  fs::path path_;
};

constexpr const char* kMemInfo = "MemTotal:       16000000 kB\nMemFree: 1 kB\nMemAvailable:    9000000 kB\n";

TEST(System, MemoryFollowsAllocations) {
  const ProcessMemory before = process_memory();
  ASSERT_GT(before.resident, 0);
  EXPECT_GE(before.peak, before.resident);
  constexpr int64_t kBytes = 64 << 20;
  {
    std::vector<char> block(kBytes, 1);
    *static_cast<volatile char*>(block.data()) = 1;  // seen: a compiler may leave out what is not
    // Everything is touched, so all but rounding and what the allocator gives back elsewhere must show.
    EXPECT_GT(process_memory().resident, before.resident + kBytes / 2) << block[12345];
  }
  EXPECT_GT(process_memory().peak, before.resident + kBytes / 2) << "the peak stays after the block is freed";
}

TEST(System, RamIsTheLimitWithoutGroups) {
  FakeRoot root;
  root.put("proc/meminfo", kMemInfo);
  const MemoryLimit limit = memory_limit(root.path());
  EXPECT_EQ(limit.bytes, int64_t{16000000} * 1024);
  EXPECT_EQ(limit.source, "RAM");
  EXPECT_EQ(available_memory(root.path()), int64_t{9000000} * 1024);
}

TEST(System, TightestAncestorOfGroupV2Limits) {
  FakeRoot root;
  root.put("proc/meminfo", kMemInfo);
  root.put("proc/self/cgroup", "0::/job/step\n");
  root.put("sys/fs/cgroup/job/step/memory.max", "max\n");
  root.put("sys/fs/cgroup/job/memory.max", "4294967296\n");
  EXPECT_EQ(memory_limit(root.path()).bytes, int64_t{4} << 30);
  EXPECT_EQ(memory_limit(root.path()).source, "cgroup v2");
  EXPECT_EQ(available_memory(root.path()), int64_t{4} << 30) << "never more than the limit";
  root.put("sys/fs/cgroup/job/memory.current", "3221225472\n");
  EXPECT_EQ(available_memory(root.path()), int64_t{1} << 30) << "less what the group uses";
  root.put("sys/fs/cgroup/job/memory.stat", "anon 1000\ninactive_file 1073741824\nactive_file 7\n");
  EXPECT_EQ(available_memory(root.path()), int64_t{2} << 30) << "but for files it can do without";
  root.put("sys/fs/cgroup/job/memory.current", "9221225472\n");
  EXPECT_EQ(available_memory(root.path()), 0);
}

TEST(System, NamespacedGroupIsFoundAtTheMount) {
  FakeRoot root;  // a container: the path is that of the host, the limit lies at the mount's root
  root.put("proc/meminfo", kMemInfo);
  root.put("proc/self/cgroup", "0::/../../host/path\n");
  root.put("sys/fs/cgroup/memory.max", "1073741824\n");
  EXPECT_EQ(memory_limit(root.path()).bytes, int64_t{1} << 30);
}

TEST(System, GroupV1AndItsUnlimitedValue) {
  FakeRoot root;
  root.put("proc/meminfo", kMemInfo);
  root.put("proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/a\n");
  root.put("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(memory_limit(root.path()).source, "RAM");
  root.put("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "2147483648\n");
  EXPECT_EQ(memory_limit(root.path()).bytes, int64_t{2} << 30);
  EXPECT_EQ(memory_limit(root.path()).source, "cgroup v1");
}

TEST(System, RubbishInProcIsNoLimit) {
  FakeRoot root;
  root.put("proc/meminfo", "MemTotal: lots\nMemAvailable:\n");
  root.put("proc/self/cgroup", "no colons\n:\n0::\n7:memory\n");
  root.put("sys/fs/cgroup/memory.max", "99999999999999999999999999\n");
  EXPECT_EQ(memory_limit(root.path()).bytes, 0);
  EXPECT_EQ(memory_limit(root.path()).source, "unknown");
  EXPECT_EQ(available_memory(root.path()), 0);
}

TEST(System, CoresFollowTheQuota) {
  FakeRoot none;
  const int affinity = usable_cores(none.path());
  EXPECT_GE(affinity, 1);
  FakeRoot v2;
  v2.put("proc/self/cgroup", "0::/job\n");
  v2.put("sys/fs/cgroup/job/cpu.max", "50000 100000\n");
  EXPECT_EQ(usable_cores(v2.path()), 1);
  v2.put("sys/fs/cgroup/job/cpu.max", "150000 100000\n");
  EXPECT_EQ(usable_cores(v2.path()), std::min(2, affinity));
  v2.put("sys/fs/cgroup/job/cpu.max", "max 100000\n");
  EXPECT_EQ(usable_cores(v2.path()), affinity);
  FakeRoot v1;
  v1.put("proc/self/cgroup", "5:cpu,cpuacct:/a\n");
  v1.put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "100000\n");
  v1.put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(usable_cores(v1.path()), 1);
  v1.put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(usable_cores(v1.path()), affinity);
}

TEST(System, WhatLimitsTheCores) {
  FakeRoot root;
  EXPECT_EQ(core_limits(root.path()).quota, 0);
  root.put("proc/self/cgroup", "0::/job\n");
  root.put("sys/fs/cgroup/job/cpu.max", "150000 100000\n");
  const CoreLimits limits = core_limits(root.path());
  EXPECT_DOUBLE_EQ(limits.quota, 1.5);
  EXPECT_GE(limits.online, limits.affinity);
  EXPECT_GE(limits.affinity, 1);
}

TEST(System, LoadAndHugePages) {
  FakeRoot root;
  EXPECT_LT(load_average(root.path()), 0);
  EXPECT_EQ(huge_page_mode(root.path()), "");
  root.put("proc/loadavg", "1.25 0.50 0.10 1/200 4711\n");
  root.put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
  EXPECT_DOUBLE_EQ(load_average(root.path()), 1.25);
  EXPECT_EQ(huge_page_mode(root.path()), "madvise");
}

TEST(System, CpuModelFromEitherSpelling) {
  FakeRoot intel;
  intel.put("proc/cpuinfo", "processor\t: 0\nmodel\t\t: 143\nmodel name\t: Some CPU @ 2.0GHz\n");
  EXPECT_EQ(cpu_model(intel.path()), "Some CPU @ 2.0GHz");
  FakeRoot nothing;
  EXPECT_FALSE(cpu_model(nothing.path()).empty());
  EXPECT_FALSE(cpu_model().empty());
}

TEST(System, DiskSpaceOfAPathThatIsNotThereYet) {
  const std::string here = fs::temp_directory_path().string();
  EXPECT_GT(free_disk_space(here), 0);
  EXPECT_GT(free_disk_space(here + "/not/there/yet"), 0);
}

TEST(System, HostAndTime) {
  EXPECT_FALSE(host_name().empty());
  EXPECT_EQ(iso_time(0), "1970-01-01T00:00:00Z");
  EXPECT_EQ(iso_time(1740830400), "2025-03-01T12:00:00Z");
  EXPECT_EQ(iso_time_now().size(), iso_time(0).size());
}

}  // namespace
}  // namespace molt

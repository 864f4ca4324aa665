// Blocks on the CPU: size classes (four per power of two) with a free list each.
#include "molt/device/memory.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "molt/base/error.h"

namespace molt {
namespace {

constexpr size_t kHugePage = size_t{1} << 21;

/// Rounds up so that at most a fifth is wasted and sizes repeat often enough to be reused.
size_t size_class(size_t bytes) {
  bytes = std::max<size_t>(bytes, 256);
  size_t step = 64;
  while (step * 8 < bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

struct Pool {
  std::mutex mutex;
  std::map<size_t, std::vector<void*>> free;
  MemoryUse use;

  void* take(size_t capacity) {
    std::lock_guard lock(mutex);
    use.live += capacity;
    use.peak = std::max(use.peak, use.live);
    auto& list = free[capacity];
    if (!list.empty()) {
      void* data = list.back();
      list.pop_back();
      return data;
    }
    const size_t alignment = capacity >= kHugePage ? kHugePage : 64;
    void* data = nullptr;
    if (::posix_memalign(&data, alignment, capacity) != 0) {
      use.live -= capacity;
      system_error("memory: ", capacity >> 20, " MiB could not be allocated (", use.live >> 20,
                   " MiB in use); try fewer tokens per step, recompute: true, or a smaller base_dtype");
    }
    if (capacity >= kHugePage) ::madvise(data, capacity, MADV_HUGEPAGE);
    use.reserved += capacity;
    return data;
  }
  void put(void* data, size_t capacity) {
    std::lock_guard lock(mutex);
    use.live -= capacity;
    free[capacity].push_back(data);
  }
  void trim() {
    std::lock_guard lock(mutex);
    for (auto& [capacity, list] : free) {
      for (void* data : list) std::free(data), use.reserved -= capacity;
      list.clear();
    }
  }
};

Pool& pool() {
  static Pool* const instance = new Pool;  // never destroyed: tensors in statics may outlive every destructor order
  return *instance;
}

}  // namespace

std::shared_ptr<Block> Block::allocate(Device device, size_t bytes) {
  MOLT_CHECK(device == Device::kCpu, "memory: no allocator for ", device_name(device), " in this build");
  auto block = std::shared_ptr<Block>(new Block);
  block->bytes_ = bytes;
  block->device_ = device;
  const size_t capacity = size_class(bytes);
  block->data_ = pool().take(capacity);
  block->capacity_ = capacity;
  return block;
}

std::shared_ptr<Block> Block::wrap(const void* data, size_t bytes, std::shared_ptr<const void> owner) {
  auto block = std::shared_ptr<Block>(new Block);
  block->data_ = const_cast<void*>(data);
  block->bytes_ = bytes;
  block->owner_ = std::move(owner);
  return block;
}

Block::~Block() {
  if (capacity_ > 0) pool().put(data_, capacity_);
}

MemoryUse memory_use() {
  std::lock_guard lock(pool().mutex);
  return pool().use;
}

void reset_peak_memory() {
  std::lock_guard lock(pool().mutex);
  pool().use.peak = pool().use.live;
}

void trim_memory() {
  pool().trim();
#if defined(__GLIBC__)
  ::malloc_trim(0);  // what free() keeps for itself
#endif
}

}  // namespace molt

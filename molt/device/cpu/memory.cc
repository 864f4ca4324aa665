// Blocks on the CPU: size classes (four per power of two) with a free list each, and chunks of huge pages for what
// stays.
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
#include <utility>
#include <vector>

#include "molt/base/error.h"
#include "molt/device/lasting_memory.h"

namespace molt {
namespace {

constexpr size_t kHugePage = size_t{1} << 21;

/// Memory from the system, by huge pages where it is large enough. Null where there is none left.
void* system_memory(size_t bytes) {
  void* data = nullptr;
  if (::posix_memalign(&data, bytes >= kHugePage ? kHugePage : 64, bytes) != 0) return nullptr;
  if (bytes >= kHugePage) ::madvise(data, bytes, MADV_HUGEPAGE);
  return data;
}

[[noreturn]] void none_left(size_t bytes, size_t live) {
  system_error("memory: ", bytes >> 20, " MiB could not be allocated (", live >> 20,
               " MiB in use); try fewer tokens per step, recompute: true, or a smaller base_dtype");
}

/// Huge pages that blocks of long life fill one after the other; freed with the last of them.
struct Chunk {
  static constexpr size_t kSize = size_t{32} << 20;  // what is never touched costs nothing
  char* data;
  size_t size, used = 0;

  explicit Chunk(size_t bytes) : data(static_cast<char*>(system_memory(bytes))), size(bytes) {}
  ~Chunk() { std::free(data); }
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;
};

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
  std::vector<std::weak_ptr<Chunk>> chunks;
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
    void* data = system_memory(capacity);
    if (!data) {
      use.live -= capacity;
      none_left(capacity, use.live);
    }
    use.reserved += capacity;
    return data;
  }
  /// Memory that stays, and the chunk it is part of.
  std::pair<void*, std::shared_ptr<Chunk>> take_lasting(size_t capacity) {
    std::lock_guard lock(mutex);
    chunks.erase(std::remove_if(chunks.begin(), chunks.end(), [](const auto& c) { return c.expired(); }), chunks.end());
    std::shared_ptr<Chunk> chunk;
    for (const auto& open : chunks)
      if (const auto c = open.lock(); c && c->size - c->used >= capacity) chunk = c;
    if (!chunk) {
      chunk = std::make_shared<Chunk>(std::max(Chunk::kSize, (capacity + kHugePage - 1) / kHugePage * kHugePage));
      if (!chunk->data) none_left(capacity, use.live);
      chunks.push_back(chunk);
    }
    use.live += capacity, use.reserved += capacity;
    use.peak = std::max(use.peak, use.live);
    void* const data = chunk->data + chunk->used;
    chunk->used += capacity;
    return {data, chunk};
  }
  void drop_lasting(size_t capacity) {
    std::lock_guard lock(mutex);
    use.live -= capacity, use.reserved -= capacity;
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

std::shared_ptr<Block> allocate_lasting(size_t bytes) {
  const size_t capacity = (bytes + 63) / 64 * 64;
  auto [data, chunk] = pool().take_lasting(capacity);
  const std::shared_ptr<const void> owner(data,
                                          [chunk = chunk, capacity](const void*) { pool().drop_lasting(capacity); });
  return Block::wrap(data, bytes, owner);
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

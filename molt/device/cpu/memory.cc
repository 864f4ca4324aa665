// Blocks on the CPU: large ones from a heap of huge pages, small ones from malloc in size classes (four to eight per
// power of two) with a free list each, and chunks of huge pages for what stays.
#include "molt/device/memory.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif
#include <sys/sysinfo.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "molt/base/error.h"
#include "molt/base/system.h"
#include "molt/device/cpu/page_heap.h"
#include "molt/device/lasting_memory.h"

namespace molt {
namespace {

/// Smaller blocks come from malloc, in size classes with a free list each.
constexpr size_t kLeastOfPages = size_t{1} << 17;

[[noreturn]] void none_left(size_t bytes, size_t live) {
  system_error("memory: ", bytes >> 20, " MiB could not be allocated (", live >> 20,
               " MiB in use); try fewer tokens per step, recompute: true, or a smaller base_dtype");
}

/// Huge pages that blocks of long life fill one after the other; freed with the last of them.
struct Chunk {
  static constexpr size_t kSize = size_t{32} << 20;  // what is never touched costs nothing
  char* data;
  size_t size, used = 0;

  explicit Chunk(size_t bytes) : data(map_huge_pages(bytes)), size(bytes) {}
  ~Chunk() {
    if (data) unmap_huge_pages(data, size);
  }
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;
};

/// What all of this machine's memory, or this container's, could hold: beyond it the system would end the process
/// without a word.
size_t most_memory() {
  struct sysinfo machine {};
  const bool known = ::sysinfo(&machine) == 0;
  const size_t ram = static_cast<size_t>(memory_limit().bytes);
  if (!known || ram == 0) return size_t{1} << 40;
  return ram + static_cast<size_t>(machine.totalswap) * machine.mem_unit;
}

struct Pool {
  std::mutex mutex;
  PageHeap heap = PageHeap(most_memory());
  std::map<size_t, std::vector<void*>> small;  // free ones
  std::vector<std::weak_ptr<Chunk>> chunks;
  MemoryUse use;  // the heap counts what it has reserved

  void* take(size_t bytes) {
    std::lock_guard lock(mutex);
    void* const data = bytes < kLeastOfPages ? take_small(block_size(bytes)) : heap.take(bytes);
    if (!data) none_left(bytes, use.live);
    use.live += block_size(bytes);
    use.peak = std::max(use.peak, use.live);
    return data;
  }
  void* take_small(size_t capacity) {
    auto& free = small[capacity];
    void* data = nullptr;
    if (!free.empty()) {
      data = free.back();
      free.pop_back();
    } else if (::posix_memalign(&data, 64, capacity) == 0) {
      use.reserved += capacity;
    }
    return data;
  }
  void put(void* data, size_t bytes) {
    std::lock_guard lock(mutex);
    use.live -= block_size(bytes);
    if (bytes < kLeastOfPages)
      small[block_size(bytes)].push_back(data);
    else
      heap.put(data, bytes);
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
  void trim() {
    std::lock_guard lock(mutex);
    for (auto& [capacity, list] : small) {
      for (void* data : list) std::free(data), use.reserved -= capacity;
      list.clear();
    }
    heap.trim();
  }
};

Pool& pool() {
  static Pool* const instance = new Pool;  // never destroyed: tensors in statics may outlive every destructor order
  return *instance;
}

}  // namespace

size_t block_size(size_t bytes) {
  if (bytes >= kLeastOfPages) return PageHeap::taken(bytes);
  // Classes of small ones: at most a fifth is wasted, and sizes repeat often enough to be reused.
  bytes = std::max<size_t>(bytes, 256);
  size_t step = 64;
  while (step * 8 < bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

std::shared_ptr<Block> Block::allocate(Device device, size_t bytes) {
  MOLT_CHECK(device == Device::kCpu, "memory: no allocator for ", device_name(device), " in this build");
  auto block = std::shared_ptr<Block>(new Block);
  block->bytes_ = bytes;
  block->device_ = device;
  block->data_ = pool().take(bytes);
  block->pooled_ = true;
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
  if (pooled_) pool().put(data_, bytes_);
}

MemoryUse memory_use() {
  std::lock_guard lock(pool().mutex);
  MemoryUse use = pool().use;
  use.reserved += pool().heap.reserved();
  return use;
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

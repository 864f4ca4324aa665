// Blocks on the CPU: size classes (four to eight per power of two) with a free list each, and chunks of huge pages for
// what stays.
#include "molt/device/memory.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "molt/base/error.h"
#include "molt/device/fitting_blocks.h"
#include "molt/device/lasting_memory.h"

namespace molt {
namespace {

constexpr size_t kHugePage = size_t{1} << 21;
/// Where much is free, a block serves requests down to such a part of it.
constexpr size_t kFits = 3;

/// Memory from the system; where it is large enough by huge pages of its own, which go back when it does. Null where
/// there is none left.
void* system_memory(size_t bytes) {
  if (bytes < kHugePage) {
    void* data = nullptr;
    return ::posix_memalign(&data, 64, bytes) == 0 ? data : nullptr;
  }
  void* const mapped = ::mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  char* const begin = static_cast<char*>(mapped);
  const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE)), used = (bytes + page - 1) / page * page;
  if (before > 0) ::munmap(begin, before);
  if (before + used < bytes + kHugePage) ::munmap(begin + before + used, bytes + kHugePage - before - used);
  ::madvise(begin + before, used, MADV_HUGEPAGE);
  return begin + before;
}

void give_back(void* data, size_t bytes) {
  if (bytes < kHugePage)
    std::free(data);
  else
    ::munmap(data, bytes);
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
  ~Chunk() {
    if (data) give_back(data, size);
  }
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;
};

struct Pool {
  std::mutex mutex;
  std::map<size_t, std::vector<void*>> free;
  std::vector<std::weak_ptr<Chunk>> chunks;
  MemoryUse use;
  int fitting = 0;  // FittingBlocks that live

  /// Memory of `capacity` bytes, or somewhat more where that is free: batches differ in size from step to step, and
  /// what served one should serve the next. `capacity` becomes what there is; what is counted is what was wanted.
  void* take(size_t& capacity) {
    std::lock_guard lock(mutex);
    const size_t wanted = capacity;
    // What a step keeps for its backward pass should not lie in blocks that are too large; a step that is smaller than
    // the ones before it may.
    const bool plenty = fitting == 0 && use.reserved - use.live > use.live / 2;
    void* data = take_free(capacity, plenty ? kFits * capacity : capacity);
    if (!data) {
      // What a smaller batch has left is not needed beside this.
      drop_free(std::max(capacity / 2, kHugePage), capacity);
      data = system_memory(capacity);
      if (!data) none_left(capacity, use.live);
      use.reserved += capacity;
    }
    use.live += wanted;
    use.peak = std::max(use.peak, use.live);
    return data;
  }
  /// The smallest free block of at least `capacity` and at most `most` bytes, or null.
  void* take_free(size_t& capacity, size_t most) {
    for (auto at = free.lower_bound(capacity); at != free.end() && at->first <= most; ++at) {
      if (at->second.empty()) continue;
      void* data = at->second.back();
      at->second.pop_back();
      capacity = at->first;
      return data;
    }
    return nullptr;
  }
  /// Gives the largest free block of at least `least` and less than `most` bytes back to the system.
  void drop_free(size_t least, size_t most) {
    for (auto at = free.lower_bound(most); at != free.begin();) {
      if ((--at)->first < least) return;
      if (at->second.empty()) continue;
      give_back(at->second.back(), at->first);
      at->second.pop_back();
      use.reserved -= at->first;
      return;
    }
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
  void put(void* data, size_t capacity, size_t wanted) {
    std::lock_guard lock(mutex);
    use.live -= wanted;
    free[capacity].push_back(data);
  }
  void trim() {
    std::lock_guard lock(mutex);
    for (auto& [capacity, list] : free) {
      for (void* data : list) give_back(data, capacity), use.reserved -= capacity;
      list.clear();
    }
  }
};

Pool& pool() {
  static Pool* const instance = new Pool;  // never destroyed: tensors in statics may outlive every destructor order
  return *instance;
}

}  // namespace

// At most a fifth is wasted, and sizes repeat often enough to be reused.
size_t block_size(size_t bytes) {
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
  size_t capacity = block_size(bytes);
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
  if (capacity_ > 0) pool().put(data_, capacity_, block_size(bytes_));
}

FittingBlocks::FittingBlocks() {
  std::lock_guard lock(pool().mutex);
  ++pool().fitting;
}
FittingBlocks::~FittingBlocks() {
  std::lock_guard lock(pool().mutex);
  --pool().fitting;
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

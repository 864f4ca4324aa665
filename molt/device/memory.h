// Memory for tensors: aligned blocks that are reused instead of returned, so that a training step asks the system for
// nothing after the first one. Large blocks are backed by huge pages where the system grants them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "molt/device/device.h"

namespace molt {

/// A block of bytes, aligned to 64. Content is unspecified at first. Back in its pool when the last owner lets go.
class Block {
 public:
  static std::shared_ptr<Block> allocate(Device device, size_t bytes);
  /// A block over memory somebody else owns (a mapped file); `owner` is kept alive with it. Read-only by agreement.
  static std::shared_ptr<Block> wrap(const void* data, size_t bytes, std::shared_ptr<const void> owner);
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }

 private:
  Block() = default;
  void* data_ = nullptr;
  size_t bytes_ = 0;
  bool pooled_ = false;
  Device device_ = Device::kCpu;
  std::shared_ptr<const void> owner_;  // set for wrapped blocks only
};

/// What a block of so many bytes takes of the pool.
size_t block_size(size_t bytes);

struct MemoryUse {
  size_t live = 0;      ///< bytes in blocks somebody holds
  size_t peak = 0;      ///< the most that was ever live since reset_peak_memory()
  size_t reserved = 0;  ///< bytes taken from the system, live or waiting for reuse, by whole pages
};

MemoryUse memory_use();
void reset_peak_memory();
/// Gives pages in which no block lives back to the system.
void trim_memory();

}  // namespace molt

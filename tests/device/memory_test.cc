// The pool that steps take their memory from.
#include "molt/device/memory.h"

#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "molt/device/fitting_blocks.h"

namespace molt {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

size_t reserved() { return memory_use().reserved; }

std::shared_ptr<Block> take(size_t bytes) { return Block::allocate(Device::kCpu, bytes); }

/// A step: as many blocks at once as a batch of so many rows needs.
void step(size_t rows) {
  std::vector<std::shared_ptr<Block>> live;
  for (const size_t width : {3000, 1500, 1500, 700}) live.push_back(take(rows * width));
}

TEST(MemoryPool, steps_of_one_size_take_from_the_system_once) {
  trim_memory();
  step(600);
  const size_t first = reserved();
  for (int i = 0; i < 5; ++i) step(600);
  EXPECT_EQ(reserved(), first);
  trim_memory();
}

TEST(MemoryPool, steps_of_every_size_take_little_more_than_the_largest) {
  trim_memory();
  const size_t before = reserved();
  step(1000);
  const size_t largest = reserved() - before;
  trim_memory();
  for (const size_t rows : {420, 510, 700, 640, 850, 1000, 580, 415, 930, 350, 777, 1000}) step(rows);
  EXPECT_LE(reserved() - before, largest + largest / 2);
  trim_memory();
}

TEST(MemoryPool, a_block_is_not_given_to_one_that_needs_a_small_part_of_it) {
  trim_memory();
  take(64 * kMiB);
  const size_t before = reserved();
  const auto small = take(2 * kMiB), large = take(64 * kMiB);
  EXPECT_LT(reserved() - before, 4 * kMiB) << "the large one was free for the large one";
  trim_memory();
}

TEST(MemoryPool, what_is_to_be_kept_lies_in_blocks_that_fit) {
  for (const bool fitting : {false, true}) {
    trim_memory();
    { const auto a = take(2 * kMiB), b = take(2 * kMiB); }
    const size_t before = reserved();
    std::optional<FittingBlocks> guard;
    if (fitting) guard.emplace();
    const auto small = take(kMiB);
    EXPECT_EQ(reserved() - before, fitting ? kMiB : 0);
  }
  trim_memory();
}

TEST(MemoryPool, live_bytes_come_back_to_what_they_were) {
  const size_t before = memory_use().live;
  { const auto a = take(5 * kMiB), b = take(3 * kMiB), c = take(4 * kMiB); }
  { const auto d = take(4 * kMiB); }
  EXPECT_EQ(memory_use().live, before);
}

}  // namespace
}  // namespace molt

// The pool that steps take their memory from.
#include "molt/device/memory.h"

#include <gtest/gtest.h>

#include <vector>

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
  EXPECT_LE(reserved() - before, largest + 2 * kMiB);
  trim_memory();
}

TEST(MemoryPool, a_small_block_in_front_of_a_free_range_leaves_the_rest) {
  trim_memory();
  take(64 * kMiB);
  const size_t before = reserved();
  const auto small = take(2 * kMiB), large = take(64 * kMiB);
  EXPECT_LT(reserved() - before, 4 * kMiB) << "the rest and a little more";
  trim_memory();
}

TEST(MemoryPool, blocks_that_are_free_serve_others_of_any_size) {
  trim_memory();
  { const auto a = take(3 * kMiB), b = take(3 * kMiB), c = take(2 * kMiB); }
  const size_t before = reserved();
  { const auto whole = take(8 * kMiB - 4096 * 4); }
  { const auto a = take(kMiB), b = take(5 * kMiB), c = take(kMiB / 2); }
  EXPECT_EQ(reserved(), before);
  trim_memory();
}

TEST(MemoryPool, what_nobody_holds_goes_back) {
  trim_memory();
  const size_t before = reserved();
  const auto kept = take(kMiB);
  { const auto a = take(30 * kMiB), b = take(400 * kMiB), c = take(1000); }
  EXPECT_GE(reserved() - before, 428 * kMiB);
  trim_memory();
  EXPECT_LE(reserved() - before, 4 * kMiB);
}

TEST(MemoryPool, live_bytes_come_back_to_what_they_were) {
  const size_t before = memory_use().live;
  { const auto a = take(5 * kMiB), b = take(3 * kMiB), c = take(4 * kMiB); }
  { const auto d = take(4 * kMiB); }
  EXPECT_EQ(memory_use().live, before);
}

}  // namespace
}  // namespace molt

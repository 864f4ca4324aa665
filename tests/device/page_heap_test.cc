// Memory in huge pages that blocks of any size are cut from.
#include "molt/device/cpu/page_heap.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

namespace molt {
namespace {

constexpr size_t kMiB = size_t{1} << 20, kMost = 4096 * kMiB;

TEST(PageHeap, a_block_takes_the_smallest_range_that_needs_no_new_page) {
  PageHeap heap(kMost);
  void* const large = heap.take(8 * kMiB);
  void* const between = heap.take(kMiB);
  void* const fits = heap.take(3 * kMiB);
  void* const end = heap.take(kMiB);
  EXPECT_EQ(heap.reserved(), 14 * kMiB) << "13 MiB and a page's rest";
  heap.put(large, 8 * kMiB);
  heap.put(fits, 3 * kMiB);
  EXPECT_EQ(heap.take(3 * kMiB), fits);
  EXPECT_EQ(heap.take(2 * kMiB), large);
  EXPECT_EQ(heap.reserved(), 14 * kMiB);
  heap.put(between, kMiB);
  EXPECT_EQ(heap.take(7 * kMiB - 8192), static_cast<char*>(large) + PageHeap::taken(2 * kMiB))
      << "what is left and what was between are one range";
  heap.put(end, kMiB);
}

// Each batch larger than the one before it, by blocks of hundreds of MiB.
TEST(PageHeap, steps_that_grow_use_the_same_pages) {
  PageHeap heap(kMost);
  for (size_t size = 200 * kMiB; size <= 400 * kMiB; size += 8 * kMiB) {
    std::vector<void*> step;
    for (int i = 0; i < 4; ++i) step.push_back(heap.take(size));
    for (void* data : step) {
      ASSERT_NE(data, nullptr);
      heap.put(data, size);
    }
    EXPECT_LE(heap.reserved(), 4 * size + 4 * kMiB);
  }
}

TEST(PageHeap, null_where_there_is_none_left) {
  PageHeap heap(100 * kMiB);
  EXPECT_EQ(heap.take(101 * kMiB), nullptr);
  EXPECT_EQ(heap.take(size_t{1} << 60), nullptr);
  EXPECT_EQ(heap.reserved(), 0);
  void* const a = heap.take(48 * kMiB);
  void* const b = heap.take(48 * kMiB);
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(heap.take(8 * kMiB), nullptr);
  heap.put(a, 48 * kMiB);
  EXPECT_NE(heap.take(8 * kMiB), nullptr);
  EXPECT_EQ(heap.take(49 * kMiB), nullptr) << "48 + 8 live";
}

TEST(PageHeap, free_pages_go_back_before_it_fails) {
  PageHeap heap(100 * kMiB);
  void* const a = heap.take(40 * kMiB);
  void* const between = heap.take(2 * kMiB);
  heap.put(a, 40 * kMiB);
  EXPECT_NE(heap.take(90 * kMiB), nullptr);
  heap.put(between, 2 * kMiB);
}

// Every block is filled with a number of its own and must still hold it when it goes; in the end all pages go back.
TEST(PageHeap, blocks_never_share_a_byte) {
  struct Taken {
    void* data;
    size_t bytes;
    int number;
  };
  PageHeap heap(kMost);
  std::mt19937 random(3);
  std::vector<Taken> live;
  size_t sum = 0, most = 0;
  for (int i = 0; i < 3000; ++i) {
    if (live.empty() || (sum < 100 * kMiB && random() % 2 == 0)) {
      const size_t bytes = 1 + random() % (random() % 10 == 0 ? 20 * kMiB : kMiB);
      void* const data = heap.take(bytes);
      ASSERT_NE(data, nullptr);
      ASSERT_EQ(reinterpret_cast<uintptr_t>(data) % 64, 0);
      std::memset(data, i % 251, bytes);
      live.push_back({data, bytes, i % 251});
      most = std::max(most, sum += PageHeap::taken(bytes));
    } else {
      const size_t at = random() % live.size();
      const Taken gone = live[at];
      const auto* bytes = static_cast<const unsigned char*>(gone.data);
      for (size_t b = 0; b < gone.bytes; b += 509) ASSERT_EQ(bytes[b], gone.number);
      ASSERT_EQ(bytes[gone.bytes - 1], gone.number);
      heap.put(gone.data, gone.bytes);
      sum -= PageHeap::taken(gone.bytes);
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(at));
    }
    if (i % 500 == 0) heap.trim();
    ASSERT_GE(heap.reserved(), sum);
  }
  EXPECT_LE(heap.reserved(), 2 * most);
  for (const Taken& gone : live) heap.put(gone.data, gone.bytes);
  heap.trim();
  EXPECT_EQ(heap.reserved(), 0);
}

}  // namespace
}  // namespace molt

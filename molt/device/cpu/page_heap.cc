#include "molt/device/cpu/page_heap.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>

#include "molt/device/cpu/poison.h"

namespace molt {
namespace {

constexpr size_t kStep = 4096;                    // blocks begin at multiples of it
constexpr size_t kSmallArea = size_t{256} << 20;  // where addresses are scarce: ulimit -v, vm.overcommit_memory=2

uintptr_t page_of(const char* place) { return reinterpret_cast<uintptr_t>(place) / kHugePage; }
size_t whole_pages(size_t bytes) { return (bytes + kHugePage - 1) / kHugePage * kHugePage; }

}  // namespace

char* map_huge_pages(size_t bytes) {
  // Without a reservation, for most of it will never be touched.
  void* const mapped =
      ::mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  char* const begin = static_cast<char*>(mapped);
  const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
  if (before > 0) ::munmap(begin, before);
  ::munmap(begin + before + bytes, kHugePage - before);
  ::madvise(begin + before, bytes, MADV_HUGEPAGE);
  return begin + before;
}

void unmap_huge_pages(char* data, size_t bytes) { ::munmap(data, bytes); }

size_t PageHeap::taken(size_t bytes) { return (bytes + kStep - 1) / kStep * kStep + kGuard; }

PageHeap::~PageHeap() {
  // Only what was poisoned: the sanitizer writes a byte for every eight of what it is told of.
  for (const uintptr_t page : pages_) unpoison(reinterpret_cast<void*>(page * kHugePage), kHugePage);
  for (const auto& [data, bytes] : areas_) unmap_huge_pages(data, bytes);
}

size_t PageHeap::new_pages(const char* begin, size_t length) const {
  size_t count = 0;
  for (uintptr_t page = page_of(begin); page <= page_of(begin + length - 1); ++page) count += 1 - pages_.count(page);
  return count;
}

void PageHeap::insert(char* begin, size_t length) {
  by_place_.emplace(begin, length);
  by_length_.emplace(length, begin);
}

void PageHeap::erase(char* begin, size_t length) {
  by_place_.erase(begin);
  by_length_.erase({length, begin});
}

bool PageHeap::grow(size_t length) {
  // Four times as many addresses as pages: ranges that are free leave room between those that are not.
  for (const size_t wanted : {4 * most_, kSmallArea, length}) {
    const size_t bytes = std::max(whole_pages(wanted), whole_pages(length));
    if (char* const data = map_huge_pages(bytes)) {
      areas_.emplace_back(data, bytes);
      insert(data, bytes);
      return true;
    }
  }
  return false;
}

void* PageHeap::take_now(size_t bytes) {
  const size_t length = taken(bytes);
  Ranges::iterator best = by_length_.end();
  size_t fewest = SIZE_MAX;
  const auto look = [&] {
    for (auto at = by_length_.lower_bound({length, nullptr}); at != by_length_.end() && fewest > 0; ++at)
      if (const size_t fresh = new_pages(at->second, length); fresh < fewest) best = at, fewest = fresh;
  };
  look();
  if (best == by_length_.end()) {
    if (whole_pages(length) > most_ || !grow(length)) return nullptr;
    look();
  }
  if (reserved() + fewest * kHugePage > most_) return nullptr;
  const auto [free, data] = *best;
  erase(data, free);
  if (free > length) insert(data + length, free - length);
  for (uintptr_t page = page_of(data); page <= page_of(data + length - 1); ++page) pages_.insert(page);
  poison(data, length);
  unpoison(data, bytes);
  return data;
}

void* PageHeap::take(size_t bytes) {
  if (void* const data = take_now(bytes)) return data;
  trim();
  return take_now(bytes);
}

void PageHeap::put(void* data, size_t bytes) {
  char* begin = static_cast<char*>(data);
  size_t length = taken(bytes);
  poison(begin, length);
  const auto after = by_place_.lower_bound(begin);
  if (after != by_place_.begin()) {
    const auto [place, size] = *std::prev(after);
    if (place + size == begin) {
      length += size, begin = place;
      erase(place, size);
    }
  }
  if (const auto next = by_place_.find(begin + length); next != by_place_.end()) {
    const auto [place, size] = *next;
    length += size;
    erase(place, size);
  }
  insert(begin, length);
}

void PageHeap::trim() {
  for (const auto& [begin, length] : by_place_) {
    const uintptr_t end = page_of(begin + length);
    for (uintptr_t page = page_of(begin + kHugePage - 1); page < end; ++page)
      if (pages_.erase(page) > 0) {
        void* const data = reinterpret_cast<void*>(page * kHugePage);
        unpoison(data, kHugePage);
        ::madvise(data, kHugePage, MADV_DONTNEED);
      }
  }
  const auto gone = std::remove_if(areas_.begin(), areas_.end(), [this](const auto& area) {
    if (by_length_.count({area.second, area.first}) == 0) return false;
    erase(area.first, area.second);
    unmap_huge_pages(area.first, area.second);
    return true;
  });
  areas_.erase(gone, areas_.end());
}

}  // namespace molt

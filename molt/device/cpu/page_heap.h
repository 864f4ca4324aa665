// Memory in huge pages that blocks of any size are cut from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <unordered_set>
#include <utility>
#include <vector>

namespace molt {

constexpr size_t kHugePage = size_t{1} << 21;

/// So many bytes of addresses, a multiple of kHugePage, aligned to one and in huge pages where the system grants them;
/// null where it refuses. They take memory once they are touched.
char* map_huge_pages(size_t bytes);
void unmap_huge_pages(char* data, size_t bytes);

/// Blocks lie beside each other, so that their ends share huge pages too: a matrix of 3 MB in pages of its own would
/// lie in small ones for a third, and passes over it would wait for translations of addresses. A block takes the
/// smallest free range in which it needs the fewest new pages, and leaves the rest; ranges that are free again merge.
/// All lie in one range of addresses (in several where the system gives few of them), so steps of any size use the same
/// memory. Not safe for threads.
class PageHeap {
 public:
  /// Takes pages of at most so many bytes.
  explicit PageHeap(size_t most) : most_(most) {}
  ~PageHeap();
  PageHeap(const PageHeap&) = delete;
  PageHeap& operator=(const PageHeap&) = delete;

  /// What a block of so many bytes takes.
  static size_t taken(size_t bytes);
  /// At least one byte; null where there is none left.
  void* take(size_t bytes);
  /// `bytes` as it was taken.
  void put(void* data, size_t bytes);
  /// Gives every page back that no block lies in.
  void trim();
  /// Bytes of the pages that blocks lie in, or lay in since they were last given back.
  size_t reserved() const { return pages_.size() * kHugePage; }

 private:
  using Ranges = std::set<std::pair<size_t, char*>>;  // length and begin
  bool grow(size_t length);
  void insert(char* begin, size_t length);
  void erase(char* begin, size_t length);
  void* take_now(size_t bytes);
  /// Pages of a range that no block has lain in.
  size_t new_pages(const char* begin, size_t length) const;

  size_t most_;
  std::vector<std::pair<char*, size_t>> areas_;
  std::map<char*, size_t> by_place_;  // free ranges: no two of them touch
  Ranges by_length_;
  std::unordered_set<uintptr_t> pages_;  // their addresses over kHugePage
};

}  // namespace molt

// Sorted, distinct row or column numbers: the part of a tensor that trains.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

namespace molt {

using IndexSet = std::vector<int64_t>;
using IndexSetPtr = std::shared_ptr<const IndexSet>;

inline IndexSetPtr make_index_set(IndexSet indices) {
  std::sort(indices.begin(), indices.end());
  indices.erase(std::unique(indices.begin(), indices.end()), indices.end());
  return std::make_shared<const IndexSet>(std::move(indices));
}

}  // namespace molt

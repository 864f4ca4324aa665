// A batch is one flat stream of T tokens; segments say where each sample begins and ends. There is no padding.
#pragma once

#include <cstdint>
#include <vector>

#include "molt/base/error.h"

namespace molt {

/// Cumulative offsets 0 = o_0 <= o_1 <= … <= o_S = T. Segment s holds rows [o_s, o_{s+1}).
class Segments {
 public:
  Segments() : offsets_{0} {}
  explicit Segments(std::vector<int64_t> offsets) : offsets_(std::move(offsets)) {
    MOLT_CHECK(!offsets_.empty() && offsets_[0] == 0, "segments: offsets must start at 0");
    for (size_t i = 1; i < offsets_.size(); ++i)
      MOLT_CHECK(offsets_[i] >= offsets_[i - 1], "segments: offsets must not decrease");
  }
  /// One segment of T tokens.
  static Segments one(int64_t tokens) { return Segments({0, tokens}); }

  int64_t count() const { return static_cast<int64_t>(offsets_.size()) - 1; }
  int64_t tokens() const { return offsets_.back(); }
  int64_t begin(int64_t s) const { return offsets_[static_cast<size_t>(s)]; }
  int64_t end(int64_t s) const { return offsets_[static_cast<size_t>(s) + 1]; }
  int64_t length(int64_t s) const { return end(s) - begin(s); }
  void append(int64_t length) { offsets_.push_back(offsets_.back() + length); }
  const std::vector<int64_t>& offsets() const { return offsets_; }

 private:
  std::vector<int64_t> offsets_;
};

}  // namespace molt

// Training data in memory: the segments of a golden stream, each one sample.
#pragma once

#include <memory>
#include <string>

#include "molt/data/batch.h"
#include "tests/cases/golden.h"

namespace molt::testing {

class SegmentsSource final : public data::Source {
 public:
  explicit SegmentsSource(const GoldenStream& stream) : stream_(stream) {}
  int64_t size() const override { return stream_.segments.count(); }
  int64_t rows(int64_t i) const override { return stream_.segments.length(i); }
  void append(int64_t i, int64_t reserve, data::Batch& batch) const override {
    for (int64_t r = 0; r < reserve; ++r) batch.push(0, data::kIgnored);
    for (int64_t t = stream_.segments.begin(i); t < stream_.segments.end(i); ++t)
      batch.push(stream_.ids[static_cast<size_t>(t)], stream_.labels[static_cast<size_t>(t)]);
    batch.close(i);
  }
  std::string where(int64_t i) const override { return "segment " + std::to_string(i); }
  uint64_t fingerprint() const override { return 1; }

 private:
  GoldenStream stream_;
};

}  // namespace molt::testing

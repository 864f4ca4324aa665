#include "molt/nn/remembered.h"

#include <utility>

namespace molt::nn {

void Remembered::keep(int site, const Tensor& y) { results_[site] = y; }

Tensor Remembered::take(int site) {
  const auto found = results_.find(site);
  if (found == results_.end()) return {};
  last_ = std::move(found->second);
  results_.erase(found);
  return last_;
}

Tensor Remembered::take_stream() { return std::exchange(stream_, {}); }

int64_t Remembered::bytes() const {
  int64_t sum = stream_.defined() ? static_cast<int64_t>(stream_.bytes()) : 0;
  for (const auto& [site, y] : results_) sum += static_cast<int64_t>(y.bytes());
  return sum;
}

}  // namespace molt::nn

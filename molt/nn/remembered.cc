#include "molt/nn/remembered.h"

#include <utility>

#include "molt/device/memory.h"

namespace molt::nn {

void Remembered::keep(int site, const Tensor& y) { results_[site] = y; }

void Remembered::keep_copy(int site, const Tensor& y) {
  keep(site, y.clone());
  copied_ += static_cast<int64_t>(block_size(y.bytes()));
}

Tensor Remembered::take(int site, bool final) {
  last_ = {};
  const auto found = results_.find(site);
  if (found == results_.end()) return {};
  const Tensor y = std::move(found->second);
  results_.erase(found);
  if (final) last_ = y;
  return y;
}

Tensor Remembered::take_stream() { return std::exchange(stream_, {}); }

int64_t Remembered::bytes() const {
  size_t sum = stream_.defined() ? block_size(stream_.bytes()) : 0;
  for (const auto& [site, y] : results_) sum += block_size(y.bytes());
  return static_cast<int64_t>(sum);
}

}  // namespace molt::nn

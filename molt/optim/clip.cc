#include "molt/optim/clip.h"

#include <cmath>

#include "molt/device/cpu/parallel.h"

namespace molt::optim {
namespace {

constexpr int64_t kChunk = 1 << 14;  // elements summed by one thread at a time

template <class T>
double sum_of_squares(const T* g, int64_t n) {
  double lanes[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int j = 0; j < 8; ++j) lanes[j] += static_cast<double>(g[i + j]) * static_cast<double>(g[i + j]);
  }
  for (; i < n; ++i) lanes[0] += static_cast<double>(g[i]) * static_cast<double>(g[i]);
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

}  // namespace

double grad_norm(const std::vector<Parameter>& parameters) {
  struct Chunk {
    Tensor grad;
    int64_t begin;
  };
  std::vector<Chunk> chunks;
  for (const Parameter& p : parameters) {
    Tensor grad = p.var.grad();
    if (!grad.defined()) continue;
    if (!grad.contiguous()) grad = grad.clone();
    for (int64_t begin = 0; begin < grad.numel(); begin += kChunk) chunks.push_back({grad, begin});
  }
  std::vector<double> sums(chunks.size());
  parallel_for(static_cast<int64_t>(chunks.size()), 1, [&](int64_t i) {
    const auto& [grad, begin] = chunks[static_cast<size_t>(i)];
    const int64_t count = std::min(kChunk, grad.numel() - begin), first = begin;
    const Tensor& g = grad;
    sums[static_cast<size_t>(i)] = with_compute_type(
        g.dtype(), [&](auto t) { return sum_of_squares(g.template data<decltype(t)>() + first, count); });
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return std::sqrt(total);
}

double clip_scale(double norm, double max_norm) {
  if (max_norm <= 0) return 1;
  const double scale = max_norm / (norm + 1e-6);
  return scale > 1 ? 1 : scale;
}

}  // namespace molt::optim

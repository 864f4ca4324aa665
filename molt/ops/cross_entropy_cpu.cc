// CPU kernels of cross_entropy.
#include "molt/ops/cross_entropy.h"

#include <cmath>
#include <limits>

#include "molt/device/cpu/parallel.h"

#include "molt/ops/simd.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "molt/ops/cross_entropy_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "molt/ops/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace molt::ops::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

/// The last, incomplete vector of a row, filled up with −∞.
template <class D, class T = hn::TFromD<D>>
hn::Vec<D> load_tail(D d, const T* from, int64_t count) {
  HWY_ALIGN T tail[hn::MaxLanes(D())];
  std::fill_n(tail, hn::Lanes(d), -std::numeric_limits<T>::infinity());
  std::copy_n(from, count, tail);
  return hn::Load(d, tail);
}

/// max, or NaN if there is one.
template <class T>
T row_max(const T* x, int64_t n) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto m0 = hn::Set(d, -std::numeric_limits<T>::infinity()), m1 = m0, bad = hn::Zero(d);
  // x86's max forgets a NaN in one of its operands, and exp() below would turn it into 0: look for it here.
  auto nan_as_ones = [&](auto v) { return hn::VecFromMask(d, hn::IsNaN(v)); };
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const auto a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + i + lanes);
    m0 = hn::Max(m0, a), m1 = hn::Max(m1, b);
    bad = hn::Or(bad, hn::Or(nan_as_ones(a), nan_as_ones(b)));
  }
  for (; i < n; i += lanes) {
    const auto a = i + lanes <= n ? hn::LoadU(d, x + i) : load_tail(d, x + i, n - i);
    m0 = hn::Max(m0, a);
    bad = hn::Or(bad, nan_as_ones(a));
  }
  if (!hn::AllTrue(d, hn::Eq(bad, hn::Zero(d)))) return std::numeric_limits<T>::quiet_NaN();
  return hn::GetLane(hn::MaxOfLanes(d, hn::Max(m0, m1)));
}

/// Σ exp(x − m). Runs of 128 per lane are summed in T, their sums in double, so that f32 loses nothing over a
/// vocabulary.
template <class T>
double sum_exp(const T* x, int64_t n, T max) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), run = 128 * lanes;
  const auto m = hn::Set(d, max);
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += run) {
    const int64_t end = std::min(n, begin + run);
    auto s0 = hn::Zero(d), s1 = s0;
    int64_t i = begin;
    for (; i + 2 * lanes <= end; i += 2 * lanes) {
      s0 = hn::Add(s0, accurate_exp(d, hn::Sub(hn::LoadU(d, x + i), m)));
      s1 = hn::Add(s1, accurate_exp(d, hn::Sub(hn::LoadU(d, x + i + lanes), m)));
    }
    for (; i < end; i += lanes) {
      const auto v = i + lanes <= end ? hn::LoadU(d, x + i) : load_tail(d, x + i, end - i);
      s0 = hn::Add(s0, accurate_exp(d, hn::Sub(v, m)));
    }
    total += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1))));
  }
  return total;
}

template <class T>
void stats_of_rows(const Tensor& logits, const std::vector<int32_t>& labels, const Tensor& stats) {
  const int64_t n = logits.cols();
  parallel_for(logits.rows(), std::max<int64_t>(1, 4096 / n), [&](int64_t row) {
    if (!labels.empty() && labels[static_cast<size_t>(row)] == kIgnore) return;
    const T* x = logits.data<T>() + row * logits.ld();
    const T max = row_max(x, n);
    stats.data<double>()[2 * row] = static_cast<double>(max);
    stats.data<double>()[2 * row + 1] = max == max ? sum_exp(x, n, max) : std::numeric_limits<double>::quiet_NaN();
  });
}

template <class T>
void gradient_of_rows(const Tensor& logits, const std::vector<int32_t>& labels, const Tensor& stats, double seed,
                      const Tensor& out) {
  const hn::ScalableTag<T> d;
  const int64_t n = logits.cols(), lanes = static_cast<int64_t>(hn::Lanes(d));
  parallel_for(logits.rows(), std::max<int64_t>(1, 4096 / n), [&](int64_t row) {
    const T* x = logits.data<T>() + row * logits.ld();
    T* g = out.data<T>() + row * out.ld();
    const int32_t label = labels[static_cast<size_t>(row)];
    if (label == kIgnore) {
      std::fill_n(g, n, T(0));
      return;
    }
    const double* s = stats.data<double>() + 2 * row;
    const auto m = hn::Set(d, static_cast<T>(s[0])), c = hn::Set(d, static_cast<T>(seed / s[1]));
    int64_t i = 0;
    for (; i + 2 * lanes <= n; i += 2 * lanes) {
      const auto a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + i + lanes);
      hn::StoreU(hn::Mul(accurate_exp(d, hn::Sub(a, m)), c), d, g + i);
      hn::StoreU(hn::Mul(accurate_exp(d, hn::Sub(b, m)), c), d, g + i + lanes);
    }
    for (; i + lanes <= n; i += lanes)
      hn::StoreU(hn::Mul(accurate_exp(d, hn::Sub(hn::LoadU(d, x + i), m)), c), d, g + i);
    if (i < n) {
      HWY_ALIGN T tail[hn::MaxLanes(hn::ScalableTag<T>())];
      hn::Store(hn::Mul(accurate_exp(d, hn::Sub(load_tail(d, x + i, n - i), m)), c), d, tail);
      std::copy_n(tail, n - i, g + i);
    }
    g[label] -= static_cast<T>(seed);
  });
}

template <class T>
void argmax_of_rows(const Tensor& logits, const Tensor& stats, std::vector<int32_t>& out) {
  const hn::ScalableTag<T> d;
  const int64_t n = logits.cols(), lanes = static_cast<int64_t>(hn::Lanes(d));
  parallel_for(logits.rows(), std::max<int64_t>(1, 8192 / n), [&](int64_t row) {
    const T* x = logits.data<T>() + row * logits.ld();
    const T max = static_cast<T>(stats.data<double>()[2 * row]);
    const auto m = hn::Set(d, max);
    int64_t i = 0;
    while (i + lanes <= n && hn::AllFalse(d, hn::Eq(hn::LoadU(d, x + i), m))) i += lanes;
    while (i < n && x[i] != max) ++i;
    out[static_cast<size_t>(row)] = static_cast<int32_t>(i < n ? i : 0);
  });
}

void row_stats(const Tensor& logits, const std::vector<int32_t>& labels, const Tensor& stats) {
  with_compute_type(logits.dtype(), [&](auto t) { stats_of_rows<decltype(t)>(logits, labels, stats); });
}
void gradient(const Tensor& logits, const std::vector<int32_t>& labels, const Tensor& stats, double seed,
              const Tensor& out) {
  with_compute_type(logits.dtype(), [&](auto t) { gradient_of_rows<decltype(t)>(logits, labels, stats, seed, out); });
}
void argmax(const Tensor& logits, const Tensor& stats, std::vector<int32_t>& out) {
  with_compute_type(logits.dtype(), [&](auto t) { argmax_of_rows<decltype(t)>(logits, stats, out); });
}

}  // namespace
}  // namespace molt::ops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace molt::ops {
namespace {
HWY_EXPORT(row_stats);
HWY_EXPORT(gradient);
HWY_EXPORT(argmax);
}  // namespace
MOLT_KERNELS(cross_entropy_kernels, Device::kCpu,
             {MOLT_BEST_TARGET(row_stats), MOLT_BEST_TARGET(gradient), MOLT_BEST_TARGET(argmax)});
}  // namespace molt::ops
#endif

// Loops over cores: OpenMP, the pool that oneDNN uses too. The split depends only on the range and the thread count,
// so sums that follow it repeat bit for bit.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <exception>

namespace molt {

inline int thread_count() { return omp_get_max_threads(); }
inline void set_thread_count(int threads) { omp_set_num_threads(threads); }

/// Calls f(begin, end) on contiguous parts of [0, n), one part per thread; on this thread alone where n <= grain.
template <class F>
void parallel_ranges(int64_t n, int64_t grain, F&& f) {
  const int64_t parts = std::min<int64_t>(thread_count(), (n + grain - 1) / std::max<int64_t>(grain, 1));
  if (n <= 0) return;
  if (parts <= 1 || omp_in_parallel()) return f(int64_t{0}, n);
  std::exception_ptr error;
#pragma omp parallel for schedule(static, 1) num_threads(static_cast <int>(parts))
  for (int64_t part = 0; part < parts; ++part) {
    try {
      f(n * part / parts, n * (part + 1) / parts);
    } catch (...) {
#pragma omp critical
      error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

/// Calls f(i) for every i in [0, n), over the cores where n > grain.
template <class F>
void parallel_for(int64_t n, int64_t grain, F&& f) {
  parallel_ranges(n, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i);
  });
}

}  // namespace molt

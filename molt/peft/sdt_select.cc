#include "molt/peft/sdt_select.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "molt/base/error.h"

namespace molt::peft {
namespace {

/// The `count` indices with the largest scores, ascending.
IndexSet largest(const std::vector<double>& scores, int64_t count) {
  IndexSet order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
  });
  order.resize(static_cast<size_t>(count));
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace

int64_t frozen_count(double share_or_count, int64_t size) {
  const double count = share_or_count < 1 ? std::nearbyint(share_or_count * static_cast<double>(size)) : share_or_count;
  return static_cast<int64_t>(count);
}

SdtSelection select_dimensions(const Tensor& A_log, const Tensor& change, const Tensor& dt,
                               const std::string& criterion, double freeze_channels, double freeze_states) {
  const int64_t E = A_log.dim(0), N = A_log.dim(1);
  const std::vector<double> before = A_log.values(), moved = change.values();
  std::vector<double> channel_scores(static_cast<size_t>(E)), state_scores(static_cast<size_t>(E * N));
  const std::vector<double> step = criterion == "a_bar" ? dt.values() : std::vector<double>();
  for (int64_t e = 0; e < E; ++e) {
    double sum = 0, norm_before = 0, norm_after = 0;
    for (int64_t n = 0; n < N; ++n) {
      const auto i = static_cast<size_t>(e * N + n);
      if (criterion == "a_bar") {
        const double a0 = std::exp(-step[static_cast<size_t>(e)] * std::exp(before[i]));
        const double a1 = std::exp(-step[static_cast<size_t>(e)] * std::exp(before[i] + moved[i]));
        state_scores[i] = std::abs(a1 - a0);
        norm_before += a0 * a0;
        norm_after += a1 * a1;
      } else {
        state_scores[i] = moved[i] * moved[i];
        sum += state_scores[i];
      }
    }
    channel_scores[static_cast<size_t>(e)] =
        criterion == "a_bar" ? std::abs(std::sqrt(norm_after) - std::sqrt(norm_before)) : sum;
  }
  SdtSelection selection;
  selection.channels = largest(channel_scores, E - frozen_count(freeze_channels, E));
  for (const int64_t e : selection.channels) {
    const std::vector<double> scores(state_scores.begin() + e * N, state_scores.begin() + (e + 1) * N);
    for (const int64_t n : largest(scores, N - frozen_count(freeze_states, N))) selection.entries.push_back(e * N + n);
  }
  return selection;
}

}  // namespace molt::peft

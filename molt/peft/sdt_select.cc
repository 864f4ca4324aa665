#include "molt/peft/sdt_select.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "molt/base/error.h"

namespace molt::peft {
namespace {

/// The `count` indices with the largest scores, ascending; those of -infinity
/// come last.
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

/// The `count` indices of smallest size; their scores become -infinity, so that
/// none of them is among the largest.
IndexSet prune(std::vector<double> sizes, int64_t count, std::vector<double>& scores) {
  for (double& size : sizes) size = -size;
  const IndexSet chosen = largest(sizes, count);
  for (const int64_t i : chosen) scores[static_cast<size_t>(i)] = -std::numeric_limits<double>::infinity();
  return chosen;
}

}  // namespace

int64_t frozen_count(double share_or_count, int64_t size) {
  const double count = share_or_count < 1 ? std::nearbyint(share_or_count * static_cast<double>(size)) : share_or_count;
  return static_cast<int64_t>(count);
}

int64_t SdtShares::channels(int64_t E) const {
  return E - frozen_count(freeze_channels, E) - frozen_count(prune_channels, E);
}
int64_t SdtShares::states(int64_t N) const {
  return N - frozen_count(freeze_states, N) - frozen_count(prune_states, N);
}

SdtSelection select_dimensions(const Tensor& A_log, const Tensor& change, const Tensor& dt,
                               const std::string& criterion, const SdtShares& shares) {
  const int64_t E = A_log.dim(0), N = A_log.dim(1);
  const std::vector<double> before = A_log.values(), moved = change.values();
  std::vector<double> channel_scores(static_cast<size_t>(E)), state_scores(static_cast<size_t>(E * N));
  std::vector<double> channel_sizes(static_cast<size_t>(E)), state_sizes(static_cast<size_t>(E * N));
  const bool prunes = shares.prune_channels > 0 || shares.prune_states > 0;
  const std::vector<double> step = criterion == "a_bar" || prunes ? dt.values() : std::vector<double>();
  for (int64_t e = 0; e < E; ++e) {
    double sum = 0, norm_before = 0, norm_after = 0;
    for (int64_t n = 0; n < N; ++n) {
      const auto i = static_cast<size_t>(e * N + n);
      if (!step.empty()) {
        const double a0 = std::exp(-step[static_cast<size_t>(e)] * std::exp(before[i]));
        const double a1 = std::exp(-step[static_cast<size_t>(e)] * std::exp(before[i] + moved[i]));
        state_scores[i] = std::abs(a1 - a0);
        state_sizes[i] = a1;
        norm_before += a0 * a0;
        norm_after += a1 * a1;
      }
      if (criterion != "a_bar") {
        state_scores[i] = moved[i] * moved[i];
        sum += state_scores[i];
      }
    }
    channel_scores[static_cast<size_t>(e)] =
        criterion == "a_bar" ? std::abs(std::sqrt(norm_after) - std::sqrt(norm_before)) : sum;
    channel_sizes[static_cast<size_t>(e)] = norm_after;
  }
  SdtSelection selection;
  selection.pruned_channels = prune(channel_sizes, frozen_count(shares.prune_channels, E), channel_scores);
  selection.channels = largest(channel_scores, shares.channels(E));
  for (const int64_t e : selection.channels) {
    std::vector<double> scores(state_scores.begin() + e * N, state_scores.begin() + (e + 1) * N);
    const std::vector<double> sizes(state_sizes.begin() + e * N, state_sizes.begin() + (e + 1) * N);
    for (const int64_t n : prune(sizes, frozen_count(shares.prune_states, N), scores))
      selection.pruned_entries.push_back(e * N + n);
    for (const int64_t n : largest(scores, shares.states(N))) selection.entries.push_back(e * N + n);
  }
  return selection;
}

}  // namespace molt::peft

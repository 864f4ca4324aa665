// SDT's ranking: which channels, and which of their states, moved most during
// the warm-up.
#pragma once

#include <string>

#include "molt/tensor/index_set.h"
#include "molt/tensor/tensor.h"

namespace molt::peft {

/// How many of `size` stay frozen: a share below 1 is rounded half to even as
/// the authors' code does, else a count.
int64_t frozen_count(double share_or_count, int64_t size);

struct SdtSelection {
  IndexSet channels;                    ///< ascending
  std::vector<int64_t> entries;         ///< e · N + n, ascending
  IndexSet pruned_channels;             ///< ascending; none of them trains
  std::vector<int64_t> pruned_entries;  ///< in trained channels, e · N + n, ascending
};

/// Shares below 1, or counts.
struct SdtShares {
  double freeze_channels = 0, freeze_states = 0, prune_channels = 0, prune_states = 0;
  /// Channels of E, and states of N in each, that train; 0 or less where
  /// nothing is left.
  int64_t channels(int64_t E) const;
  int64_t states(int64_t N) const;
};

/// A_log and its change (E, N); dt (E): a typical time step per channel, used
/// by "a_bar" only. "a_log": a channel's score is Σ_n change², a state's
/// change² (the authors' code, step 4). "a_bar": with Ābar = exp(−dt ·
/// exp(A_log)), a channel's is the change of ‖Ābar_e‖, a state's |change of
/// Ābar_en| (the paper's Alg. 1; it leaves open which dt stands for an
/// input-dependent one). Ties go to the lower index. Pruned are the channels of
/// smallest ‖Ābar_e‖ after the warm-up, and in trained channels the states of
/// smallest Ābar_en, whatever the criterion; the others are ranked without
/// them.
SdtSelection select_dimensions(const Tensor& A_log, const Tensor& change, const Tensor& dt,
                               const std::string& criterion, const SdtShares& shares);
inline SdtSelection select_dimensions(const Tensor& A_log, const Tensor& change, const Tensor& dt,
                                      const std::string& criterion, double freeze_channels, double freeze_states) {
  return select_dimensions(A_log, change, dt, criterion,
                           {.freeze_channels = freeze_channels, .freeze_states = freeze_states});
}

}  // namespace molt::peft

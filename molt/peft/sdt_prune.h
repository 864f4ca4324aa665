// SDT-P's pruning: a pruned channel or state adds nothing to the output,
// neither from what it remembers nor from the token it has just read. (The
// authors' code sets A_log to 10, which leaves the second.)
#pragma once

#include "molt/nn/edit.h"
#include "molt/tensor/index_set.h"

namespace molt::peft {

/// At dt_proj: the channels' time step is 0 (softplus of a very negative
/// number), so their states never leave where they start. Merges: rows of the
/// weight 0, of the bias that number.
std::shared_ptr<nn::Edit> pruned_channels(IndexSet channels);

/// At A_log, for entries e · N + n: the states forget at once.
std::shared_ptr<nn::Edit> pruned_memory(const nn::Site& A_log, std::vector<int64_t> entries);
/// And at tap y: what they would still give of the token just read is taken
/// away.
std::shared_ptr<nn::Edit> pruned_present(const nn::Site& A_log, std::vector<int64_t> entries);

}  // namespace molt::peft

// The output projection and the cross-entropy together, chunk by chunk over labelled rows, so that the logits of a
// whole batch never exist: of 512 rows and 50,280 words they would be 103 MB, and their gradient as much again.
#pragma once

#include <vector>

#include "molt/nn/parts.h"

namespace molt::nn {

/// x (R, D), labels (R) -> (1): Σ −log softmax(head(x))[label]. While gradients are recorded, each chunk's gradient is
/// computed as soon as its loss is (with seed 1): head trainables get theirs at once, x when the result is
/// back-propagated, which must then be done with seed 1, once.
Var head_loss(const Context& c, const Linear& head, int64_t vocabulary, const Var& x,
              const std::vector<int32_t>& labels);

}  // namespace molt::nn

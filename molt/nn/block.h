// Blocks: (rows, Carry in) -> (rows, Carry out), differentiable in both. Decoding, prompts in chunks, learned initial
// states and spans of a long segment are all this one thing.
#pragma once

#include <memory>
#include <vector>

#include "molt/nn/edit.h"

namespace molt::nn {

/// What a block hands from one span of rows to the next, per segment. Undefined members mean "from the start".
struct BlockCarry {
  Var conv;  ///< (S, K−1, E): the convolution's last inputs
  Var ssm;   ///< (S, E, N): the state
};

/// One per layer.
using Carry = std::vector<BlockCarry>;

/// The carry of one segment, for `segments` of them: all go on from the same place. Differentiable.
BlockCarry repeat_carry(const BlockCarry& carry, int64_t segments);

class Block {
 public:
  virtual ~Block() = default;
  /// u (T, D) -> (T, D). `in`: null at the start of every segment. `out`: null if nobody goes on from here.
  virtual Var forward(const Context& c, const Var& u, const BlockCarry* in, BlockCarry* out) const = 0;
  /// The carry behind u, and nothing else.
  virtual BlockCarry carry_after(const Context& c, const Var& u, const BlockCarry* in) const {
    BlockCarry out;
    forward(c, u, in, &out);
    return out;
  }
};

}  // namespace molt::nn

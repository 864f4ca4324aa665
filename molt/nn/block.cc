#include "molt/nn/block.h"

#include "molt/ops/repeat.h"

namespace molt::nn {

BlockCarry repeat_carry(const BlockCarry& carry, int64_t segments) {
  BlockCarry all;
  if (carry.conv.defined()) all.conv = ops::repeat_first(carry.conv, segments);
  if (carry.ssm.defined()) all.ssm = ops::repeat_first(carry.ssm, segments);
  return all;
}

}  // namespace molt::nn

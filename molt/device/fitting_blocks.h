// A stretch of time in which memory is given out by fitting blocks only.
#pragma once

namespace molt {

/// While one lives, a request is not served by a free block that is much too large for it, as it is where a smaller
/// batch follows a larger one: what is kept for long would hold such a block all the time.
class FittingBlocks {
 public:
  FittingBlocks();
  ~FittingBlocks();
  FittingBlocks(const FittingBlocks&) = delete;
  FittingBlocks& operator=(const FittingBlocks&) = delete;
};

}  // namespace molt

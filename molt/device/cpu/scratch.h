// A dense matrix in pooled memory, for as long as it is in scope.
#pragma once

#include "molt/device/matrix.h"
#include "molt/device/memory.h"

namespace molt {

struct Scratch {
  Scratch(int64_t rows, int64_t cols, Dtype dtype)
      : block(Block::allocate(Device::kCpu, static_cast<size_t>(rows * cols) * dtype_size(dtype))),
        view{block->data(), rows, cols, cols, dtype} {}
  std::shared_ptr<Block> block;
  Matrix view;
};

}  // namespace molt

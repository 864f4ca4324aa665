// Which segments a carry speaks of: decoding lets finished sequences go, reorders beams and takes new prompts in.
#pragma once

#include <cstdint>
#include <vector>

#include "molt/nn/block.h"

namespace molt::eval {

/// The carry of segments `rows` of `carry`, in that order; repeats allowed. A constant copy, without history.
nn::Carry take_segments(const nn::Carry& carry, const std::vector<int64_t>& rows);

/// The segments of `a` followed by those of `b`. An empty carry stands for no segments.
nn::Carry join_segments(const nn::Carry& a, const nn::Carry& b);

}  // namespace molt::eval

// Sizes that options ask for: ranks, rows, states, widths.
#pragma once

#include <cstdint>
#include <string>

#include "molt/base/error.h"

namespace molt::peft {

/// Throws UsageError for a size below `least`, or beyond every model's width: the bytes of such a tensor could not be
/// counted in 64 bits. `what`: the method and its option.
inline void check_size(const std::string& what, int64_t size, int64_t least = 1) {
  constexpr int64_t kMost = int64_t{1} << 20;
  if (size < least) usage_error(what, " must be at least ", least, ", is ", size);
  if (size > kMost) usage_error(what, " must be at most ", kMost, ", is ", size);
}

}  // namespace molt::peft

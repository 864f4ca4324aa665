// Token embeddings: the table's row of each id. Runs on the kernels of gather_rows.
#pragma once

#include <cstdint>
#include <vector>

#include "molt/autograd/tape.h"

namespace molt::ops {

struct Embedding {
  static constexpr const char* kName = "embedding";
  std::vector<int32_t> ids{};  // kept for backward; the table is not
  Dtype out = Dtype::kF32;

  Tensor forward(const Needs& needs, const Tensor& table);
  void backward(const Tensor& dy, Grads& d) const;
};

/// table (V, D) f32, f64, bf16 or f16, T ids -> (T, D) of dtype `out` (f32 or f64). The table's gradient, where wanted,
/// is dense (V, D), or has the wanted rows only. An id outside [0, V) throws InternalError.
inline Var embedding(const Var& table, std::vector<int32_t> ids, Dtype out = Dtype::kF32) {
  return record(Embedding{std::move(ids), out}, table);
}

}  // namespace molt::ops

// The loss of a softmax over very many outputs, and its gradient, without the logits ever lying in memory: a few
// hundred outputs at a time are computed, exponentiated and multiplied back while they are in the cache (as attention
// is in Dao et al., "FlashAttention", 2022). Only for weights in tiles (PackedMatrix::panels()).
#pragma once

#include <cstdint>
#include <vector>

#include "molt/device/gemm.h"

namespace molt {

/// Whether there is a kernel for this weight; with `gradient`, for the gradient too.
bool softmax_loss_available(const PackedMatrix& weight, bool gradient);

/// Σ_t −log softmax(x Wᵀ)_t[label_t] for x (T, D), f32 or bf16, W (V, D) and T labels in [0, V). Where dx (T, D), f32,
/// has memory, it gets the gradient. NaN in x makes the sum NaN. Exponentials are rounded to bf16 for the product with
/// W, everything else is f32, sums over outputs f64; same bits whatever the thread count.
double softmax_loss(const PackedMatrix& weight, const ConstMatrix& x, const std::vector<int32_t>& labels,
                    const Matrix& dx);

}  // namespace molt

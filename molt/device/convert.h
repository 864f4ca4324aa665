// Copies of matrices between element types, over all cores: f32, f64, bf16 and f16 on either side.
// Goal: f32 <-> bf16 at the speed of memory, because activations cross it several times per layer. f16 (checkpoints)
// and f64 (tests) are correct, not fast.
#pragma once

#include "molt/device/matrix.h"

namespace molt {

/// to = from, element by element, rounded to nearest (ties to even; NaN stays NaN). Same shape; they must not overlap
/// unless they are the same matrix.
void convert(const ConstMatrix& from, const Matrix& to);

/// to += from, the sum rounded once to the type of `to`.
void convert_add(const ConstMatrix& from, const Matrix& to);

}  // namespace molt

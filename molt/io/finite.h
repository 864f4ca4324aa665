// Whether a file's numbers are numbers: one NaN in a weight and every result is NaN, hours later and elsewhere.
#pragma once

#include "molt/tensor/tensor.h"

namespace molt::io {

/// Whether a dtype is one that weights come in: f64, f32, bf16 or f16.
bool is_float(Dtype dtype);

/// False where a float tensor holds a NaN or an infinity. Reads every byte once (some GB/s).
bool all_finite(const Tensor& tensor);

}  // namespace molt::io

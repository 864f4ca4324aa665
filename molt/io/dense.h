// Tensors as plain bytes: what the writers of tensor files share.
#pragma once

#include "molt/base/file.h"
#include "molt/tensor/tensor.h"

namespace molt::io {

/// The elements of a tensor (a view too) in row-major order, without gaps.
void write_dense(const ByteSink& sink, const Tensor& tensor);

}  // namespace molt::io

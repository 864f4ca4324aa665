// A tensor as the raw matrix that products work on.
#pragma once

#include "molt/device/matrix.h"
#include "molt/tensor/tensor.h"

namespace molt {

/// Rows by columns, row stride kept. The tensor must outlive the view.
inline Matrix matrix_view(const Tensor& t) { return {t.raw(), t.rows(), t.cols(), t.ld(), t.dtype()}; }

}  // namespace molt

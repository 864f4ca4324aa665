// What the ops that multiply by trainables share: products on tensors, and sums of columns.
#pragma once

#include "molt/autograd/var.h"

namespace molt::ops {

/// out = alpha · op(a) · op(b), or += where out.accumulate. op transposes where asked. f32 or f64.
void multiply(bool trans_a, bool trans_b, double alpha, const Tensor& a, const Tensor& b, const GradOut& out);

/// out (W) = Σ_t a[t, :], or +=. Sums run in one order whatever the thread count.
void sum_rows(const Tensor& a, const GradOut& out);

}  // namespace molt::ops

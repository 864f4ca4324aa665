// A method's view of the base's weights: rows as the products use them, and pairs of small matrices taken from them.
#pragma once

#include <utility>

#include "molt/nn/site.h"
#include "molt/tensor/tensor.h"

namespace molt::peft {

/// Whether the base's values are there; a model may be looked at without them.
bool has_weights(const nn::Site& site);
/// Rows [begin, begin + count) of a linear's weight, dense. For a frozen one: as rounded to the compute type.
Tensor base_rows(const nn::Site& site, int64_t begin, int64_t count, Dtype dtype);
/// What the same rows lost when they were put into that form: the checkpoint's values less base_rows(). Undefined where
/// the checkpoint's are not there (nn::Parameter::keep_source).
Tensor lost_rows(const nn::Site& site, int64_t begin, int64_t count, Dtype dtype);
/// a (R, I) · Wᵀ -> (R, O) with the linear's whole weight, in its compute type.
Tensor times_base(const nn::Site& site, const Tensor& a);

/// (A (R, I), B (O, R)) with scale · B A the best approximation of W (O, I) of rank R: singular values shared evenly
/// (PiSSA; Meng et al., 2024). By subspace iteration with eight further directions; exact where R + 8 ≥ min(O, I).
/// Throws UsageError for R > min(O, I).
std::pair<Tensor, Tensor> principal_pair(const Tensor& W, int64_t rank, double scale, int64_t iterations,
                                         uint64_t seed);
/// (A, B) = (Qᵀ W, Q) with Q (O, R) an orthonormal basis of W's first R columns, as in its QR decomposition (OLoRA;
/// Büyükakyüz, 2024). Signs are those of a positive diagonal; LAPACK's may differ in B's columns and A's rows at once.
std::pair<Tensor, Tensor> leading_qr_pair(const Tensor& W, int64_t rank);

}  // namespace molt::peft

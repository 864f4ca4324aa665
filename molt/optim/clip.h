// Clipping by the global norm of all gradients, as torch.nn.utils.clip_grad_norm_ does it.
#pragma once

#include <vector>

#include "molt/optim/parameter.h"

namespace molt::optim {

/// √Σ g² over the gradients of all parameters; those without a gradient count as zero. Summed in double, in an order
/// that does not depend on the thread count. Not finite where a gradient is not.
double grad_norm(const std::vector<Parameter>& parameters);

/// What to multiply gradients of norm `norm` with so that it does not exceed `max_norm`: min(1, max_norm / (norm +
/// 1e-6)). 1 where max_norm <= 0 (no clipping); NaN where the norm is.
double clip_scale(double norm, double max_norm);

}  // namespace molt::optim

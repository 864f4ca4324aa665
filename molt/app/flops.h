// Floating-point operations of training, from shapes alone.
//
// A product of T rows with a (O, I) weight counts 2 T O I, an exponential one. Products are nearly all of the work; of
// the rest only what goes over channels and states is counted (scan, convolution, gates).
#pragma once

#include "molt/nn/edit.h"
#include "molt/nn/language_model.h"

namespace molt::app {

/// Per token; the head's per labelled token.
struct TokenFlops {
  double forward = 0, backward = 0;            ///< all layers
  double head_forward = 0, head_backward = 0;  ///< logits and loss

  /// Of a batch.
  double step(double tokens, double labelled) const {
    return tokens * (forward + backward) + labelled * (head_forward + head_backward);
  }
};

/// What a training step with these edits and with what trains whole (Parameter::trained) takes. Layers below the lowest
/// that trains have no backward pass. `recompute`: layers with a backward pass run forward twice.
TokenFlops count_flops(const nn::LanguageModel& model, const nn::EditSet& edits, bool recompute);

}  // namespace molt::app

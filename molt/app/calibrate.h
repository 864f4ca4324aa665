// How fast this machine is at what training consists of, measured in a few seconds. For estimates and for `molt
// doctor`; nothing ever chooses a kernel by these numbers.
#pragma once

#include <cstdint>
#include <vector>

#include "molt/app/recipe.h"
#include "molt/models/load.h"

namespace molt::app {

/// FLOP/s of products with a packed weight (O, I) and T rows of f32 activations; a product counts 2 T O I.
struct ProductRate {
  double forward = 0;
  double backward = 0;  ///< towards the input
};
/// The best of what `seconds` allow. `compute`: type of the operands.
ProductRate product_rate(int64_t rows, int64_t outputs, int64_t inputs, Dtype compute, double seconds);

/// Bytes per second that all threads together read and write while copying; the best of what `seconds` allow.
double memory_bandwidth(double seconds);

/// Largest difference between a small product with a packed weight and the same in f64, over the largest result: a
/// self-check of the processor's kernels. Rounding to bf16 alone gives up to about 0.01.
double product_error(Dtype compute);

/// Seconds that the parts of a training step take, on all threads.
struct StepRates {
  double plain_forward = 0;   ///< per token: a layer without edits, nothing kept for backward
  double layer_forward = 0;   ///< per token: a layer with its edits
  double layer_backward = 0;  ///< per token: a layer's gradients, of its input and of what trains in it
  double head = 0;            ///< per labelled token: norm, logits, loss, and the gradient towards the last layer
  double update = 0;          ///< per number that trains: AdamW, and packing what trains whole again
};

struct CalibrationOptions {
  int64_t rows = 512;  ///< tokens in a step
  int64_t segments = 4;
  double seconds = 3;  ///< more where two steps alone take longer
  uint64_t seed = 42;
};

/// Times steps of two layers made like the first of `model`, with weights at random and what `methods` would train
/// there in their last phase. A method that finds no target in two layers is left out.
StepRates calibrate(const models::LoadedModel& model, const std::vector<MethodEntry>& methods,
                    const CalibrationOptions& options);

}  // namespace molt::app

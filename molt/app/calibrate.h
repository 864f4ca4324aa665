// How fast this machine is at what training consists of, measured in a few seconds. For estimates and for `molt
// doctor`; nothing ever chooses a kernel by these numbers.
#pragma once

#include <cstdint>
#include <vector>

#include "molt/app/probe.h"
#include "molt/device/gemm.h"

namespace molt::app {

/// FLOP/s of products with a packed weight (O, I) and T rows of f32 activations; a product counts 2 T O I.
struct ProductRate {
  double forward = 0;
  double backward = 0;  ///< towards the input
};
/// The best of what `seconds` allow. `kept`: how the weight is kept and multiplied.
ProductRate product_rate(int64_t rows, int64_t outputs, int64_t inputs, PackOptions kept, double seconds);

/// Bytes per second that all threads together read and write while copying; the best of what `seconds` allow.
double memory_bandwidth(double seconds);

/// Largest difference between a small product with a packed weight and the same in f64, over the largest result: a
/// self-check of the processor's kernels. Rounding to bf16 or 8 bits alone gives up to about 0.01.
double product_error(PackOptions kept);

/// Seconds that the parts of a training step take, on all threads.
struct StepRates {
  double plain_forward = 0;   ///< per token: a layer without edits, nothing kept for backward
  double plain_head = 0;      ///< per labelled token: norm, logits and loss alone
  double layer_forward = 0;   ///< per token: a layer with its edits
  double known_forward = 0;   ///< per token: the same where the results of its products are known; 0 if not asked for
  double layer_backward = 0;  ///< per token: a layer's gradients, of its input and of what trains in it
  double head = 0;            ///< per labelled token: the same, and the gradient towards the last layer
  double update = 0;          ///< per number that trains: norm of gradients, AdamW, packing what trains whole again
};

struct CalibrationOptions {
  bool recompute = false;
  bool known = false;  ///< whether known_forward is wanted
  double seconds = 3;  ///< more where a step alone takes longer
};

/// Times steps of the probe on the batches in turn, which it must have seen before (the first step on a batch of a new
/// size prepares kernels). Of each part the lower quartile, since other programs may run.
StepRates calibrate(Probe& probe, const std::vector<data::Batch>& batches, const CalibrationOptions& options);

}  // namespace molt::app

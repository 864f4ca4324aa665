// How much memory a run will take, measured on a few layers and carried over to all of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "molt/app/probe.h"
#include "molt/data/load.h"

namespace molt::app {

/// Bytes at a run's highest point, part by part.
struct MemoryPlan {
  int64_t program = 0;     ///< libraries, compiled kernels, tokenizer, data
  int64_t mapped = 0;      ///< of the checkpoint's file: tables that are read where they are
  int64_t weights = 0;     ///< packed matrices, tables and small tensors that are loaded
  int64_t trainables = 0;  ///< values of what trains
  int64_t optimizer = 0;   ///< its gradients and moments
  int64_t best = 0;        ///< the copy with the lowest validation loss
  int64_t saved = 0;       ///< activations that layers keep for the backward pass
  int64_t work = 0;        ///< what else a step or an evaluation holds

  int64_t tensors() const { return weights + trainables + optimizer + best + saved + work; }
  int64_t total() const { return program + mapped + tensors(); }
};

struct BatchLimits {
  int64_t batches = 0;  ///< that the run will see, from the first epoch's first
  int64_t span = 0;     ///< tokens that go through the model at a time; 0: whole batches
  int64_t rows = 4096;  ///< most to measure on
};

/// Batches (or spans of some) to measure on, of the sizes that a run will see: the largest first.
std::vector<data::Batch> typical_batches(const data::BatchStream& stream, const BatchLimits& limits);

/// What a forecast is about.
struct ForecastInputs {
  const models::LoadedModel& base;  ///< the whole model; it needs no weights
  const nn::EditSet& edits;         ///< what the phase's methods do there
  int64_t trainable = 0;            ///< numbers that train in the phase
  int64_t kept = 0;                 ///< numbers kept: of the lowest validation loss, or the start's for a later phase
  int64_t most_rows = 0;            ///< in the largest batch
  double new_size = 0;              ///< measure_new_size()
  int64_t carries = 0;              ///< states of all layers that are held between the pieces of a long sample
  int64_t sizes = 1;                ///< different numbers of rows in batches
  const std::vector<data::Batch>& batches;  ///< typical_batches()
  const data::Source* judged = nullptr;     ///< what the run evaluates on; may be null
};

/// Bytes that the program grows by at every new number of rows, for which libraries prepare kernels of their own. Only
/// the first measurement in a process finds out.
double measure_new_size(Probe& probe, const data::Batch& batch);

/// Steps the probe, with or without recomputation, and says what the whole model will take.
MemoryPlan forecast_memory(Probe& probe, const ForecastInputs& inputs, bool recompute);

/// Bytes that one span leaves of its first run if it leaves the results of products (nn::Remembered).
int64_t forecast_products(const Probe& probe, const ForecastInputs& inputs);

/// Throws UsageError unless a plan, or else the one with recomputation, fits into `limit` bytes with a tenth to spare.
/// Returns whether to recompute. `tokens`: of the largest batch or, where `spans`, of a span; for the message.
bool choose_recompute(int64_t limit, const MemoryPlan& plain, const MemoryPlan& recomputed, int64_t tokens,
                      bool spans = false);

}  // namespace molt::app

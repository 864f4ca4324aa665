// How well a model predicts: the mean negative log-likelihood of the labelled tokens, and its exponential.
#pragma once

#include <cstdint>
#include <functional>

#include "molt/data/batch.h"
#include "molt/eval/model_view.h"

namespace molt::eval {

/// Sums over labelled rows; divided last, so results of several parts can be added.
struct Likelihood {
  double nll = 0;       ///< Σ −log p(label), in nats
  int64_t tokens = 0;   ///< labelled rows
  int64_t correct = 0;  ///< of them, rows whose most likely token is the label (0 unless asked for)
  double mean() const { return tokens > 0 ? nll / static_cast<double>(tokens) : 0; }
  double perplexity() const;
  double accuracy() const { return tokens > 0 ? static_cast<double>(correct) / static_cast<double>(tokens) : 0; }
  Likelihood& operator+=(const Likelihood& other);
};

struct LikelihoodOptions {
  int64_t rows = 2048;       ///< rows in one pass; longer samples go through in pieces. Changes speed and memory only
  int64_t most_samples = 0;  ///< look at the first ones only; 0 is all of them
  bool count_correct = false;
  int64_t reserve = 0;  ///< rows before each segment that an edit fills, as in training
};

/// Told of how many samples are done, of how many.
using Progress = std::function<void(int64_t done, int64_t total)>;

/// One pass over a source in its order, without gradients. Throws UsageError if it has no sample.
Likelihood likelihood(const ModelView& model, const data::Source& source, const LikelihoodOptions& options = {},
                      const Progress& progress = {});

/// The same for one batch.
Likelihood likelihood(const ModelView& model, const data::Batch& batch, const LikelihoodOptions& options = {});

}  // namespace molt::eval

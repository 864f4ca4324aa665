// One batch through the model, forward and backward, in spans that fit in memory: whole segments together, and segments
// longer than a span cut into pieces that hand their state on. Goals: exact gradients at the memory of one span plus
// one state per piece, so that length is bounded by time alone; truncated ones where time matters more.
// Cost: of a cut segment every piece but the last runs forward twice (its state must be known before the gradient can
// come back through it), unless there is memory to keep what its first run has computed.
#pragma once

#include <cstdint>

#include "molt/data/batch.h"
#include "molt/nn/language_model.h"

namespace molt::train {

struct SpanConfig {
  int64_t length = 0;      ///< most tokens in a span; 0: the whole batch at once
  bool truncated = false;  ///< gradients stop where a span begins; every piece runs forward once
  /// Most bytes beside those of one span that spans may keep of their first run: the results of products, which need
  /// not be computed again then, and where there is room for those of all spans, all activations of a segment's last
  /// ones, which run forward once. Gradients are the same bit for bit.
  int64_t keep = 0;
};

/// How many pieces of a segment, its last one not counted, leave something of their first run.
struct SpanShare {
  int64_t products = 0;  ///< the results of products, so that the second run need not multiply
  int64_t whole = 0;     ///< all activations, so that there is no second run
};

/// `bytes` shared out among `pieces`, each of which may leave `product_bytes` (0: none to leave) or `whole_bytes`.
/// Products come first: byte for byte they save more time.
SpanShare share_out(int64_t bytes, int64_t pieces, int64_t product_bytes, int64_t whole_bytes);

/// Σ −log p over the labelled rows, and how many there are.
struct PassLoss {
  double sum = 0;
  int64_t count = 0;
};

/// Adds the batch's gradients (of the sum, not the mean) into every trainable. `c` is the pass's context; its segments
/// are set here. With truncated == false the gradients are those of the whole batch at once up to rounding.
PassLoss run_pass(const nn::LanguageModel& model, nn::Context c, const data::Batch& batch, const SpanConfig& config);

}  // namespace molt::train

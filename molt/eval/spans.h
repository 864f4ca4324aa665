// Long streams in pieces that fit: whole segments packed together, and segments longer than a pass cut into chunks that
// hand their carry on. Both are exact, so the limit is about memory only.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "molt/eval/model_view.h"
#include "molt/tensor/segments.h"

namespace molt::eval {

/// What goes through the model at once: `count` whole segments, or a piece of one.
struct Span {
  int64_t first_segment = 0, count = 0;
  int64_t begin = 0, rows = 0;  ///< of the stream
  bool starts = true;           ///< its segments begin here, from their initial state
  bool ends = true;             ///< its segments end here
};

/// Cuts a stream into spans of at most `max_rows` rows (> 0), in order.
std::vector<Span> plan_spans(const Segments& segments, int64_t max_rows);

/// The segments that a span goes through the model as: its own, or one for a piece.
Segments segments_of(const Span& span, const Segments& segments);

/// Called with each span, its context, hidden (rows, D) and, if it ends its segments and carries were asked for, the
/// carry after them.
using SpanVisitor = std::function<void(const Span&, const nn::Context&, const Var& hidden, const nn::Carry* carry)>;

struct SpanOptions {
  int64_t max_rows = 0;
  bool want_carry = false;
  const nn::Carry* start = nullptr;  ///< of one segment: what every segment goes on from; null: its initial state
};

/// Runs a stream through the model span by span, without gradients.
void run_spans(const ModelView& model, const std::vector<int32_t>& ids, const Segments& segments,
               const SpanOptions& options, const SpanVisitor& visit);

/// Where prompts have led.
struct Prefilled {
  Tensor logits;    ///< (S, V): what comes after each of S prompts
  nn::Carry carry;  ///< of S segments, if it was asked for
};

/// Reads prompts (none of them empty) as one packed stream. What all of them begin with is read once.
Prefilled prefill(const ModelView& model, const std::vector<std::vector<int32_t>>& prompts, int64_t max_rows,
                  bool want_carry);

/// Throws UsageError for a prompt without tokens, or with one outside the model's vocabulary.
void check_prompts(const ModelView& model, const std::vector<std::vector<int32_t>>& prompts);

}  // namespace molt::eval

#include "molt/eval/spans.h"

#include <algorithm>

#include "molt/base/error.h"
#include "molt/eval/carry.h"

namespace molt::eval {
namespace {

/// Tokens that all prompts begin with, while each keeps one of its own. 0 where reading them apart is not worth it.
size_t shared_prefix(const std::vector<std::vector<int32_t>>& prompts) {
  constexpr size_t kWorthwhile = 8;
  if (prompts.size() < 2) return 0;
  size_t shared = prompts[0].size();
  for (const auto& prompt : prompts) {
    shared = std::min(shared, prompt.size() - 1);
    shared = static_cast<size_t>(
        std::mismatch(prompt.begin(), prompt.begin() + static_cast<int64_t>(shared), prompts[0].begin()).first -
        prompt.begin());
  }
  return shared < kWorthwhile ? 0 : shared;
}

}  // namespace

std::vector<Span> plan_spans(const Segments& segments, int64_t max_rows) {
  MOLT_CHECK(max_rows > 0, "spans: at most ", max_rows, " rows");
  std::vector<Span> spans;
  for (int64_t s = 0; s < segments.count(); ++s) {
    const int64_t length = segments.length(s);
    if (length > max_rows) {
      for (int64_t done = 0; done < length; done += max_rows) {
        const int64_t rows = std::min(max_rows, length - done);
        spans.push_back({.first_segment = s,
                         .count = 1,
                         .begin = segments.begin(s) + done,
                         .rows = rows,
                         .starts = done == 0,
                         .ends = done + rows == length});
      }
    } else if (!spans.empty() && spans.back().starts && spans.back().ends && spans.back().rows + length <= max_rows) {
      ++spans.back().count;
      spans.back().rows += length;
    } else {
      spans.push_back({.first_segment = s, .count = 1, .begin = segments.begin(s), .rows = length});
    }
  }
  return spans;
}

Segments segments_of(const Span& span, const Segments& segments) {
  if (!span.starts || !span.ends) return Segments::one(span.rows);
  Segments own;
  for (int64_t s = span.first_segment; s < span.first_segment + span.count; ++s) own.append(segments.length(s));
  return own;
}

void run_spans(const ModelView& model, const std::vector<int32_t>& ids, const Segments& segments,
               const SpanOptions& options, const SpanVisitor& visit) {
  const NoGrad no_grad;
  nn::Carry carry;  // of a segment in pieces
  for (const Span& span : plan_spans(segments, options.max_rows)) {
    const Segments own = segments_of(span, segments);
    const nn::Context context = model.context(own);
    const std::vector<int32_t> part(ids.begin() + span.begin, ids.begin() + span.begin + span.rows);
    const bool goes_on = options.want_carry || !span.ends;
    if (span.starts && options.start)
      carry = take_segments(*options.start, std::vector<int64_t>(static_cast<size_t>(span.count), 0));
    const bool fresh = span.starts && !options.start;
    nn::Carry next;
    const Var hidden = model.model.hidden(context, part, fresh ? nullptr : &carry, goes_on ? &next : nullptr);
    carry = std::move(next);
    visit(span, context, hidden, options.want_carry && span.ends ? &carry : nullptr);
  }
}

Prefilled prefill(const ModelView& model, const std::vector<std::vector<int32_t>>& prompts, int64_t max_rows,
                  bool want_carry) {
  for (const auto& prompt : prompts) MOLT_CHECK(!prompt.empty(), "prefill: an empty prompt");
  const size_t shared = shared_prefix(prompts);
  nn::Carry start;
  if (shared > 0) {
    const std::vector<int32_t> prefix(prompts[0].begin(), prompts[0].begin() + static_cast<int64_t>(shared));
    run_spans(model, prefix, Segments::one(static_cast<int64_t>(shared)), {.max_rows = max_rows, .want_carry = true},
              [&](const Span& span, const nn::Context&, const Var&, const nn::Carry* carry) {
                if (span.ends) start = *carry;
              });
  }
  std::vector<int32_t> ids;
  Segments segments;
  for (const auto& prompt : prompts) {
    ids.insert(ids.end(), prompt.begin() + static_cast<int64_t>(shared), prompt.end());
    segments.append(static_cast<int64_t>(prompt.size() - shared));
  }
  Prefilled result;
  run_spans(model, ids, segments,
            {.max_rows = max_rows, .want_carry = want_carry, .start = shared > 0 ? &start : nullptr},
            [&](const Span& span, const nn::Context& context, const Var& hidden, const nn::Carry* carry) {
              if (!span.ends) return;
              std::vector<int64_t> last;
              for (int64_t s = 0; s < context.segments->count(); ++s) last.push_back(context.segments->end(s) - 1);
              const Tensor logits = model.model.logits(context, hidden, last).value();
              if (!result.logits.defined()) result.logits = logits.like({segments.count(), logits.dim(1)});
              result.logits.row_range(span.first_segment, span.count).copy_from(logits);
              if (carry) result.carry = join_segments(result.carry, *carry);
            });
  return result;
}

void check_prompts(const ModelView& model, const std::vector<std::vector<int32_t>>& prompts) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (prompts[i].empty())
      usage_error("prompt ", i + 1, ": has no tokens; the model needs at least one to start from");
    for (const int32_t id : prompts[i]) {
      if (id < 0 || id >= model.vocabulary())
        usage_error("prompt ", i + 1, ": token id ", id, " is outside the model's vocabulary of ", model.vocabulary(),
                    "; is this the model's own tokenizer?");
    }
  }
}

}  // namespace molt::eval

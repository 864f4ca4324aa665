#include "molt/train/span_pass.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "molt/autograd/tape.h"
#include "molt/device/memory.h"
#include "molt/eval/spans.h"
#include "molt/nn/remembered.h"

namespace molt::train {
namespace {

/// Constants with the carry's values.
nn::Carry detached(const nn::Carry& carry) {
  nn::Carry out;
  for (const nn::BlockCarry& layer : carry) out.push_back({.conv = layer.conv.detach(), .ssm = layer.ssm.detach()});
  return out;
}

/// Leaves with the carry's values from layer `lowest` on, to catch the gradient that flows back into it.
nn::Carry leaves(nn::Carry carry, int lowest) {
  for (size_t i = static_cast<size_t>(lowest); i < carry.size(); ++i)
    carry[i] = {.conv = Var::leaf(carry[i].conv.value()), .ssm = Var::leaf(carry[i].ssm.value())};
  return carry;
}

/// A span that ran forward and waits for its backward pass.
struct Stretch {
  eval::Span span;
  std::unique_ptr<const Segments> segments;  // contexts point there
  nn::Carry in, out;
  Var hidden;
};

/// Where products leave their results, and where they find them.
struct Products {
  nn::Remembered* keeps = nullptr;
  nn::Remembered* known = nullptr;
};

class Pass {
 public:
  Pass(const nn::LanguageModel& model, const nn::Context& c, const data::Batch& batch)
      : model_(model), context_(c), batch_(batch), lowest_(c.edits ? nn::lowest_trained_layer(model, *c.edits) : 0) {}

  /// Whole segments, or a piece of a chain behind the carry `in` (empty: from the start).
  Stretch forward(const eval::Span& span, nn::Carry in, bool want_out, const Products& products = {}) const {
    Stretch s{.span = span, .segments = segments_of(span), .in = std::move(in), .out = {}, .hidden = {}};
    nn::Context c = context_of(s);
    c.keeps = products.keeps, c.known = products.known;
    s.hidden = model_.hidden(c, part(batch_.ids, span), s.in.empty() ? nullptr : &s.in, want_out ? &s.out : nullptr);
    return s;
  }

  /// `came_back`: leaves of the carry after this piece, with the gradients that the pieces behind it gave them; empty
  /// where none come.
  void backward(const Stretch& s, const nn::Carry& came_back) {
    const nn::LossSum loss = model_.loss(context_of(s), s.hidden, part(batch_.labels, s.span));
    std::vector<Root> roots;
    if (loss.count > 0) {
      result_.sum += loss.sum.value().values()[0];
      result_.count += loss.count;
      if (loss.sum.needs_grad()) roots.push_back({loss.sum, {}});
    }
    for (size_t i = 0; i < came_back.size(); ++i) {
      for (const auto member : {&nn::BlockCarry::conv, &nn::BlockCarry::ssm}) {
        const Var& value = s.out[i].*member;
        if (!value.needs_grad()) continue;
        const Tensor grad = (came_back[i].*member).grad();
        if (grad.defined()) roots.push_back({value, grad});
      }
    }
    if (!roots.empty()) molt::backward(roots);
  }

  /// The state after a piece, and nothing else; `keeps`: where products leave their results, or null.
  nn::Carry carry_after(const eval::Span& span, const nn::Carry& in, nn::Remembered* keeps) const {
    const NoGrad no_grad;
    const Stretch s{.span = span, .segments = segments_of(span), .in = {}, .out = {}, .hidden = {}};
    nn::Context c = context_of(s);
    c.keeps = keeps;
    return model_.carry_after(c, part(batch_.ids, span), in.empty() ? nullptr : &in);
  }

  /// What a piece starts from, ready to catch the gradient that flows back into it.
  nn::Carry caught(const nn::Carry& carry) const { return leaves(carry, lowest_); }

  /// Whether activations may be kept at all: where layers are recomputed, memory is short.
  bool keeps() const { return !context_.recompute; }
  int lowest() const { return lowest_; }
  const PassLoss& result() const { return result_; }

 private:
  static std::vector<int32_t> part(const std::vector<int32_t>& all, const eval::Span& span) {
    return {all.begin() + span.begin, all.begin() + span.begin + span.rows};
  }

  std::unique_ptr<const Segments> segments_of(const eval::Span& span) const {
    return std::make_unique<const Segments>(eval::segments_of(span, batch_.segments));
  }

  /// Random draws are keyed by row, so a span sees those that its rows would see in the whole batch.
  nn::Context context_of(const Stretch& s) const {
    nn::Context c = context_;
    c.segments = s.segments.get();
    c.first_row += s.span.begin;
    return c;
  }

  const nn::LanguageModel& model_;
  nn::Context context_;
  const data::Batch& batch_;
  int lowest_;  // layers below hand no gradient back
  PassLoss result_;
};

/// A segment in pieces [first, last] of `spans`. States first, then gradients from the last piece to the first.
void train_exactly(Pass& pass, const std::vector<eval::Span>& spans, size_t first, size_t last, int64_t keep) {
  const size_t before_last = last - first;
  const auto pieces = static_cast<int64_t>(before_last);
  std::vector<nn::Carry> before(before_last + 1);  // of each piece; nothing before the first
  std::vector<nn::Remembered> products(before_last, nn::Remembered(pass.lowest()));
  std::vector<Stretch> kept;  // the pieces before the last that need not run again
  SpanShare share;
  for (size_t i = 0; i < before_last; ++i) {
    const eval::Span& span = spans[first + i];
    const int64_t left = pieces - static_cast<int64_t>(i);  // pieces that keep most come last
    // The first shows how much memory each of them takes.
    const bool shows = i == 0 && keep > 0 && pass.keeps();
    if (!shows && left > share.whole) {
      before[i + 1] = pass.carry_after(span, before[i], left <= share.products + share.whole ? &products[i] : nullptr);
      continue;
    }
    const auto used = static_cast<int64_t>(memory_use().live);
    Stretch stretch = pass.forward(span, pass.caught(before[i]), true, {.keeps = shows ? &products[i] : nullptr});
    if (shows) {
      const int64_t held = static_cast<int64_t>(memory_use().live) - used;
      share = share_out(keep, pieces, products[i].bytes(), held - products[i].copied_bytes());
    }
    before[i + 1] = detached(stretch.out);
    if (left <= share.whole || left > share.products + share.whole) products[i] = nn::Remembered();
    if (left <= share.whole) kept.push_back(std::move(stretch));
  }
  nn::Carry came_back;
  for (size_t i = before_last + 1; i-- > 0;) {
    Stretch stretch;
    if (i < before_last && !kept.empty()) {
      stretch = std::move(kept.back());
      kept.pop_back();
    } else {
      const Products known{.known = i < before_last ? &products[i] : nullptr};
      stretch = pass.forward(spans[first + i], pass.caught(before[i]), i < before_last, known);
      if (i < before_last) products[i] = nn::Remembered();
    }
    before[i].clear();
    pass.backward(stretch, came_back);
    came_back = std::move(stretch.in);
  }
}

void train_truncated(Pass& pass, const std::vector<eval::Span>& spans, size_t first, size_t last) {
  nn::Carry in;
  for (size_t i = first; i <= last; ++i) {
    const Stretch stretch = pass.forward(spans[i], std::move(in), i < last);
    pass.backward(stretch, {});
    in = detached(stretch.out);
  }
}

}  // namespace

SpanShare share_out(int64_t bytes, int64_t pieces, int64_t product_bytes, int64_t whole_bytes) {
  whole_bytes = std::max<int64_t>(1, whole_bytes);
  if (product_bytes <= 0 || product_bytes >= whole_bytes) return {.whole = std::min(pieces, bytes / whole_bytes)};
  if (product_bytes * pieces > bytes) return {.products = bytes / product_bytes};
  const int64_t whole = std::min(pieces, (bytes - product_bytes * pieces) / (whole_bytes - product_bytes));
  return {.products = pieces - whole, .whole = whole};
}

PassLoss run_pass(const nn::LanguageModel& model, nn::Context c, const data::Batch& batch, const SpanConfig& config) {
  Pass pass(model, c, batch);
  const bool whole = config.length == 0 || batch.rows() <= config.length;
  const std::vector<eval::Span> spans =
      whole ? std::vector<eval::Span>{{.count = batch.segments.count(), .rows = batch.rows()}}
            : eval::plan_spans(batch.segments, config.length);
  for (size_t first = 0; first < spans.size();) {
    size_t last = first;
    while (!spans[last].ends) ++last;
    if (first == last) {
      pass.backward(pass.forward(spans[first], {}, false), {});
    } else if (config.truncated) {
      train_truncated(pass, spans, first, last);
    } else {
      train_exactly(pass, spans, first, last, config.keep);
    }
    first = last + 1;
  }
  return pass.result();
}

}  // namespace molt::train

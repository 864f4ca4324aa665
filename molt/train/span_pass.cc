#include "molt/train/span_pass.h"

#include <utility>
#include <vector>

#include "molt/autograd/tape.h"
#include "molt/eval/spans.h"

namespace molt::train {
namespace {

/// Constants with the carry's values.
nn::Carry detached(const nn::Carry& carry) {
  nn::Carry out;
  for (const nn::BlockCarry& layer : carry) out.push_back({.conv = layer.conv.detach(), .ssm = layer.ssm.detach()});
  return out;
}

/// Leaves with the carry's values, to catch the gradient that flows back into it.
nn::Carry leaves(const nn::Carry& carry) {
  nn::Carry out;
  for (const nn::BlockCarry& layer : carry)
    out.push_back({.conv = Var::leaf(layer.conv.value()), .ssm = Var::leaf(layer.ssm.value())});
  return out;
}

class Pass {
 public:
  Pass(const nn::LanguageModel& model, const nn::Context& c, const data::Batch& batch)
      : model_(model), context_(c), batch_(batch) {}

  /// Whole segments, or the piece of a chain between two carries: forward and backward. `came_back`: leaves of the
  /// carry after this piece, with the gradients that the pieces behind it gave them; null where none come.
  void train(const eval::Span& span, const nn::Carry* in, nn::Carry* out, const nn::Carry* came_back) {
    const Segments own = eval::segments_of(span, batch_.segments);
    const nn::Context c = context_of(span, own);
    const Var hidden = model_.hidden(c, part(batch_.ids, span), in, out);
    const nn::LossSum loss = model_.loss(c, hidden, part(batch_.labels, span));
    std::vector<Root> roots;
    if (loss.count > 0) {
      result_.sum += loss.sum.value().values()[0];
      result_.count += loss.count;
      if (loss.sum.needs_grad()) roots.push_back({loss.sum, {}});
    }
    for (size_t i = 0; came_back && i < came_back->size(); ++i) {
      for (const auto member : {&nn::BlockCarry::conv, &nn::BlockCarry::ssm}) {
        const Var& value = (*out)[i].*member;
        const Tensor grad = ((*came_back)[i].*member).grad();
        if (value.needs_grad() && grad.defined()) roots.push_back({value, grad});
      }
    }
    if (!roots.empty()) backward(roots);
  }

  /// The state after a piece, and nothing else.
  nn::Carry carry_after(const eval::Span& span, const nn::Carry* in) const {
    const NoGrad no_grad;
    const Segments own = eval::segments_of(span, batch_.segments);
    nn::Carry out;
    model_.hidden(context_of(span, own), part(batch_.ids, span), in, &out);
    return out;
  }

  const PassLoss& result() const { return result_; }

 private:
  static std::vector<int32_t> part(const std::vector<int32_t>& all, const eval::Span& span) {
    return {all.begin() + span.begin, all.begin() + span.begin + span.rows};
  }

  /// Random draws are keyed by row, so a span sees those that its rows would see in the whole batch.
  nn::Context context_of(const eval::Span& span, const Segments& own) const {
    nn::Context c = context_;
    c.segments = &own;
    c.first_row += span.begin;
    return c;
  }

  const nn::LanguageModel& model_;
  nn::Context context_;
  const data::Batch& batch_;
  PassLoss result_;
};

/// A segment in pieces [first, last] of `spans`. States first, then gradients from the last piece to the first.
void train_exactly(Pass& pass, const std::vector<eval::Span>& spans, size_t first, size_t last) {
  std::vector<nn::Carry> before(last - first + 1);  // of each piece; nothing before the first
  for (size_t i = first; i < last; ++i)
    before[i - first + 1] = pass.carry_after(spans[i], i == first ? nullptr : &before[i - first]);
  nn::Carry came_back;
  for (size_t i = last + 1; i-- > first;) {
    nn::Carry in = i == first ? nn::Carry() : leaves(before[i - first]), out;
    before[i - first].clear();
    pass.train(spans[i], i == first ? nullptr : &in, i == last ? nullptr : &out, i == last ? nullptr : &came_back);
    came_back = std::move(in);
  }
}

void train_truncated(Pass& pass, const std::vector<eval::Span>& spans, size_t first, size_t last) {
  nn::Carry in;
  for (size_t i = first; i <= last; ++i) {
    nn::Carry out;
    pass.train(spans[i], i == first ? nullptr : &in, i == last ? nullptr : &out, nullptr);
    in = detached(out);
  }
}

}  // namespace

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
      pass.train(spans[first], nullptr, nullptr, nullptr);
    } else if (config.truncated) {
      train_truncated(pass, spans, first, last);
    } else {
      train_exactly(pass, spans, first, last);
    }
    first = last + 1;
  }
  return pass.result();
}

}  // namespace molt::train

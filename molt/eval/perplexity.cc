#include "molt/eval/perplexity.h"

#include <algorithm>
#include <cmath>

#include "molt/base/error.h"
#include "molt/eval/spans.h"
#include "molt/ops/cross_entropy.h"

namespace molt::eval {
namespace {

constexpr int64_t kLogitElements = int64_t{1} << 23;  // alive at a time when tokens are compared: 32 MB in f32

int64_t count_correct(const ModelView& model, const nn::Context& context, const Var& hidden,
                      const std::vector<int32_t>& labels) {
  std::vector<int64_t> rows;
  for (size_t t = 0; t < labels.size(); ++t) {
    if (labels[t] >= 0) rows.push_back(static_cast<int64_t>(t));
  }
  const size_t chunk = static_cast<size_t>(std::max<int64_t>(kLogitElements / model.vocabulary(), 16));
  int64_t correct = 0;
  for (size_t begin = 0; begin < rows.size(); begin += chunk) {
    const std::vector<int64_t> part(rows.begin() + static_cast<int64_t>(begin),
                                    rows.begin() + static_cast<int64_t>(std::min(begin + chunk, rows.size())));
    const auto best = ops::row_log_probs(model.model.logits(context, hidden, part).value(), {}).argmax;
    for (size_t i = 0; i < part.size(); ++i) correct += best[i] == labels[static_cast<size_t>(part[i])];
  }
  return correct;
}

}  // namespace

double Likelihood::perplexity() const { return std::exp(mean()); }

Likelihood& Likelihood::operator+=(const Likelihood& other) {
  nll += other.nll;
  tokens += other.tokens;
  correct += other.correct;
  return *this;
}

Likelihood likelihood(const ModelView& model, const data::Batch& batch, const LikelihoodOptions& options) {
  Likelihood total;
  run_spans(model, batch.ids, batch.segments, {.max_rows = options.rows},
            [&](const Span& span, const nn::Context& context, const Var& hidden, const nn::Carry*) {
              const std::vector<int32_t> labels(batch.labels.begin() + span.begin,
                                                batch.labels.begin() + span.begin + span.rows);
              const nn::LossSum loss = model.model.loss(context, hidden, labels);
              if (loss.count == 0) return;
              total.nll += loss.sum.value().values()[0];
              total.tokens += loss.count;
              if (options.count_correct) total.correct += count_correct(model, context, hidden, labels);
            });
  return total;
}

Likelihood likelihood(const ModelView& model, const data::Source& source, const LikelihoodOptions& options,
                      const Progress& progress) {
  if (source.size() == 0) usage_error("evaluation: there is no example to evaluate on");
  const int64_t samples = options.most_samples > 0 ? std::min(options.most_samples, source.size()) : source.size();
  Likelihood total;
  data::Batch batch;
  for (int64_t i = 0; i < samples; ++i) {
    source.append(i, options.reserve, batch);
    const bool full =
        i + 1 == samples || batch.rows() + source.rows(i + 1) + options.reserve * source.segments(i + 1) > options.rows;
    if (!full) continue;
    total += likelihood(model, batch, options);
    batch = {};
    if (progress) progress(i + 1, samples);
  }
  return total;
}

}  // namespace molt::eval

#include "molt/app/forecast.h"

#include <algorithm>
#include <tuple>

#include "molt/app/flops.h"
#include "molt/base/error.h"
#include "molt/base/format.h"
#include "molt/base/system.h"
#include "molt/eval/perplexity.h"
#include "molt/eval/spans.h"

namespace molt::app {
namespace {

/// The last `kept` of rows [begin, end) of a batch, with as large a share of labels: what stands behind the last label
/// has no backward pass, so the end must be one that has them.
data::Batch sample(const data::Batch& batch, int64_t begin, int64_t end, int64_t kept) {
  kept = std::min(kept, end - begin);
  const auto labelled = [&](int64_t from) {
    return end - from - std::count(batch.labels.begin() + from, batch.labels.begin() + end, data::kIgnored);
  };
  const int64_t share = (labelled(begin) * kept + end - begin - 1) / std::max<int64_t>(1, end - begin);
  begin = end - kept;
  int64_t spare = labelled(begin) - share;  // the first of them are taken off
  data::Batch part;
  for (int64_t s = 0; s < batch.segments.count(); ++s) {
    const int64_t first = std::max(begin, batch.segments.begin(s)), last = std::min(end, batch.segments.end(s));
    if (first >= last) continue;
    for (int64_t t = first; t < last; ++t) {
      int32_t label = batch.labels[static_cast<size_t>(t)];
      if (label != data::kIgnored && spare > 0) --spare, label = data::kIgnored;
      part.push(batch.ids[static_cast<size_t>(t)], label);
    }
    part.close(batch.examples[static_cast<size_t>(s)]);
  }
  return part;
}

data::Batch sample(const data::Batch& batch, int64_t kept) { return sample(batch, 0, batch.rows(), kept); }

struct StepBytes {
  double saved_per_layer = 0;
  double first = 0;  ///< taken from the system by a step on the largest batch: saved, gradients, all in between
  double all = 0;    ///< by all steps: what one leaves free serves the next, but not all of it
};

StepBytes measure_steps(Probe& probe, const std::vector<data::Batch>& batches, bool recompute) {
  trim_memory();
  const MemoryUse before = memory_use();
  StepBytes bytes;
  for (size_t i = 0; i < batches.size(); ++i) {
    const StepLaps laps = probe.step(batches[i], recompute);
    if (i > 0) continue;
    // The last layer's output is nobody's to keep.
    const int64_t output = batches[0].rows() * probe.model().plan().d_model *
                           static_cast<int64_t>(dtype_size(probe.model().precision().activation()));
    bytes.saved_per_layer =
        static_cast<double>(laps.live_after_forward - static_cast<int64_t>(before.live) - output) / probe.layers();
    bytes.first = static_cast<double>(memory_use().reserved - before.reserved);
  }
  bytes.all = static_cast<double>(memory_use().reserved - before.reserved);
  return bytes;
}

}  // namespace

double measure_new_size(Probe& probe, const data::Batch& batch) {
  constexpr int64_t kSizes = 6;
  if (batch.rows() <= 2 * kSizes) return 0;
  const auto outside = [] { return process_memory().resident - static_cast<int64_t>(memory_use().reserved); };
  probe.step(batch, false);
  const int64_t before = outside();
  for (int64_t i = 1; i <= kSizes; ++i) probe.step(sample(batch, batch.rows() - i), false);
  return std::max(0.0, static_cast<double>(outside() - before) / kSizes);
}

namespace {

/// What an evaluation takes beyond what steps have left in the pool.
int64_t measure_evaluation(Probe& probe, const data::Source& judged) {
  const size_t before = memory_use().reserved;
  const eval::LikelihoodOptions options;
  data::Batch batch;
  for (int64_t i = 0; i < judged.size() && (i == 0 || batch.rows() + judged.rows(i) <= options.rows); ++i)
    judged.append(i, 0, batch);
  eval::likelihood(probe.view(), sample(batch, 2 * options.rows), options);
  return static_cast<int64_t>(memory_use().reserved - before);
}

/// Whether the checkpoint's table is read where it is in the file.
bool stays_mapped(const models::LoadedModel& base, const nn::Parameter& p) {
  const nn::Precision& precision = base.model->precision();
  if (!p.lookup || p.trained || !base.checkpoint || (p.product && precision.packed_lookup())) return false;
  const std::string name = models::stored_name(base, p.path);
  return !name.empty() && base.checkpoint->info(name).dtype->dtype == precision.lookup();
}

}  // namespace

std::vector<data::Batch> typical_batches(const data::BatchStream& stream, const BatchLimits& limits) {
  constexpr int64_t kLooked = 2000;
  struct Place {
    int64_t rows, labelled, batch, begin, end;
    /// The most rows first, of as many those with the most labels.
    bool operator<(const Place& o) const {
      return std::tie(o.rows, o.labelled, batch, begin) < std::tie(rows, labelled, o.batch, o.begin);
    }
  };
  std::vector<Place> places;
  for (int64_t b = 0; b < std::min({stream.steps_per_epoch(), limits.batches, kLooked}); ++b) {
    const data::Batch batch = stream.at(0, b);
    if (limits.span == 0 || batch.rows() <= limits.span) {
      places.push_back({batch.rows(), batch.labelled, b, 0, batch.rows()});
      continue;
    }
    for (const eval::Span& span : eval::plan_spans(batch.segments, limits.span)) {
      const auto labels = batch.labels.begin() + span.begin;
      places.push_back({span.rows, span.rows - std::count(labels, labels + span.rows, data::kIgnored), b, span.begin,
                        span.begin + span.rows});
    }
  }
  std::sort(places.begin(), places.end());
  // All by one power of two, so that sizes keep their relation.
  int64_t less = 1;
  while (places.front().rows / less > limits.rows) less *= 2;
  std::vector<data::Batch> batches;
  for (const size_t part : {0, 2, 4, 8}) {  // eighths
    const Place& p = places[(places.size() - 1) * part / 8];
    const int64_t rows = std::max<int64_t>(1, p.rows / less);
    if (batches.empty() || rows != batches.back().rows())
      batches.push_back(sample(stream.at(0, p.batch), p.begin, p.end, rows));
  }
  return batches;
}

MemoryPlan forecast_memory(Probe& probe, const ForecastInputs& in, bool recompute) {
  const nn::LanguageModel& model = *in.base.model;
  constexpr int64_t kNumber = 4;  // bytes of what trains, its gradient, each of two moments
  MemoryPlan plan;
  for (const nn::Parameter& p : model.parameters()) {
    plan.weights += probe.weight_bytes(p);
    if (!stays_mapped(in.base, p)) continue;
    const int64_t table = shape_numel(p.shape) * static_cast<int64_t>(dtype_size(model.precision().lookup()));
    plan.mapped += table;
    plan.weights -= table;
  }
  plan.trainables = kNumber * in.trainable;
  plan.optimizer = 3 * kNumber * in.trainable;
  plan.best = kNumber * in.kept;

  const double ratio = static_cast<double>(in.most_rows) / static_cast<double>(in.batches.at(0).rows());
  const double gradients = static_cast<double>(kNumber * probe.trainable_count());
  const StepBytes bytes = measure_steps(probe, in.batches, recompute);
  double first = bytes.first - gradients, saved = bytes.saved_per_layer;
  if (ratio > 1) {
    // Part of it, such as logits, does not grow with the batch.
    const StepBytes half = measure_steps(probe, {sample(in.batches[0], in.batches[0].rows() / 2)}, recompute);
    first += 2 * (ratio - 1) * std::max(0.0, bytes.first - half.first);
    saved *= ratio;
  }
  const int lowest = nn::lowest_trained_layer(model, in.edits), layers = static_cast<int>(model.plan().layers.size());
  plan.saved = static_cast<int64_t>(saved * (layers - lowest));
  const double step = first + saved * (layers - lowest - probe.layers());
  const double sizes = std::max(1.0, (bytes.all - gradients) / std::max(1.0, bytes.first - gradients));
  plan.work = static_cast<int64_t>(std::max(0.0, step * sizes - static_cast<double>(plan.saved)));
  for (const nn::LayerPlan& layer : model.plan().layers) {
    const nn::MambaConfig& c = layer.mixer;
    plan.work += in.carries * c.d_inner * (c.d_state + c.d_conv - 1) * kNumber;
  }
  if (in.judged) plan.work += measure_evaluation(probe, *in.judged);
  plan.program = std::max<int64_t>(0, process_memory().resident - static_cast<int64_t>(memory_use().reserved));
  // Libraries keep a limited number of kernels.
  const int64_t new_sizes = std::min<int64_t>(in.sizes, 80) - static_cast<int64_t>(in.batches.size());
  if (new_sizes > 0) plan.program += static_cast<int64_t>(static_cast<double>(new_sizes) * in.new_size);
  return plan;
}

int64_t forecast_products(const Probe& probe, const ForecastInputs& in) {
  const nn::LanguageModel& model = *in.base.model;
  const int64_t layers = static_cast<int64_t>(model.plan().layers.size()),
                lowest = nn::lowest_trained_layer(model, in.edits);
  const double ratio = static_cast<double>(in.most_rows) / static_cast<double>(in.batches.at(0).rows());
  const double one = ratio * static_cast<double>(probe.again(in.batches[0]).products) / probe.layers();
  const int64_t stream =
      in.most_rows * model.plan().d_model * static_cast<int64_t>(dtype_size(model.precision().activation()));
  return static_cast<int64_t>(one * static_cast<double>(layers - lowest)) +
         (lowest > 0 && lowest < layers ? stream : 0);
}

bool choose_recompute(int64_t limit, const MemoryPlan& plain, const MemoryPlan& recomputed, int64_t tokens,
                      bool spans) {
  // Plans have been up to a tenth too low.
  const auto fits = [&](const MemoryPlan& plan) {
    return 1.1 * static_cast<double>(plan.total()) <= static_cast<double>(limit);
  };
  if (fits(plain)) return false;
  if (fits(recomputed)) return true;
  const MemoryPlan& least = recomputed.total() < plain.total() ? recomputed : plain;
  const int64_t step = least.saved + least.work;
  usage_error("max_memory: ", format_bytes(limit), " is too little: this run needs about ", format_bytes(least.total()),
              spans ? "" : " even with recompute: true", " (", format_bytes(least.total() - step), " whatever the ",
              spans ? "span" : "batch", ", ", format_bytes(step), " for ", tokens,
              " tokens at a time), and a tenth to spare; raise it, or lower ",
              spans ? "span_length" : "tokens_per_batch");
}

}  // namespace molt::app

#include "molt/app/plan.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "molt/app/compare.h"
#include "molt/app/outline.h"
#include "molt/base/error.h"
#include "molt/base/format.h"
#include "molt/train/trainer.h"

namespace molt::app {
namespace {

constexpr int64_t kLooked = 2000;  // batches or samples that are counted; the rest is taken to be like them

/// How many different numbers of rows the first `batches` batches have.
int64_t count_sizes(const data::BatchStream& stream, int64_t batches) {
  std::set<int64_t> sizes;
  int64_t looked = 0;
  batches = std::min(batches, kLooked);
  for (int64_t epoch = 0; looked < batches; ++epoch) {
    for (int64_t b = 0; b < stream.steps_per_epoch(epoch) && looked < batches; ++b, ++looked)
      sizes.insert(stream.at(epoch, b).rows());
  }
  return static_cast<int64_t>(sizes.size());
}

/// `run`: batches that the run will see.
DataPlan plan_data(const Recipe& recipe, const PreparedRun& prepared, int64_t run) {
  DataPlan plan;
  const data::BatchStream& stream = *prepared.stream;
  plan.examples = stream.source().size();
  plan.sizes = count_sizes(stream, run);
  const int64_t batches = stream.steps_per_epoch(), looked = std::min(batches, kLooked);
  const int64_t span = recipe.training.span_length;
  int64_t rows = 0, labelled = 0;
  for (int64_t b = 0; b < looked; ++b) {
    const data::Batch batch = stream.at(0, b);
    rows += batch.rows(), labelled += batch.labelled;
    if (b < run) plan.most_tokens = std::max(plan.most_tokens, span > 0 ? std::min(span, batch.rows()) : batch.rows());
    for (int64_t s = 0; span > 0 && batch.rows() > span && s < batch.segments.count(); ++s) {
      const int64_t pieces = (batch.segments.length(s) + span - 1) / span;
      plan.most_pieces = std::max(plan.most_pieces, pieces);
      if (pieces > 1 && !recipe.training.truncated_backprop) plan.cut.push_back(pieces - 1);
    }
  }
  const double all = static_cast<double>(batches) / static_cast<double>(looked);
  plan.tokens = std::llround(all * static_cast<double>(rows));
  plan.labelled = std::llround(all * static_cast<double>(labelled));
  const double together = static_cast<double>(recipe.training.gradient_accumulation_steps);
  plan.steps_per_epoch = static_cast<double>(batches) / together;
  plan.step_tokens = static_cast<double>(rows) / static_cast<double>(looked) * together;
  plan.step_labelled = static_cast<double>(labelled) / static_cast<double>(looked) * together;
  plan.looked = looked;
  if (const data::Source* source = prepared.data.validation.get()) {
    const int64_t samples = std::min(source->size(), recipe.data.validation_limit.value_or(source->size()));
    const int64_t counted = std::min(samples, kLooked);
    data::Batch batch;
    for (int64_t i = 0; i < counted; ++i) source->append(i, 0, batch);
    plan.validation_tokens = batch.rows() * samples / std::max<int64_t>(1, counted);
    plan.validation_labelled = batch.labelled * samples / std::max<int64_t>(1, counted);
  }
  return plan;
}

/// Bytes that spans may keep of their first run: what the recipe or max_memory says.
int64_t bytes_for_spans(const Recipe& recipe, const RunPlan& plan) {
  if (plan.data.cut.empty() || plan.recompute) return 0;
  if (plan.max_memory == 0) return recipe.training.span_bytes();
  const auto left = std::max<int64_t>(0, plan.max_memory / 11 * 10 - plan.memory(false).total());
  return recipe.training.span_memory.empty() ? left : std::min(left, recipe.training.span_bytes());
}

/// Counts what spans keep into the plan of each phase, and those that run twice into its data.
void plan_spans(const Recipe& recipe, RunPlan& plan) {
  plan.span_bytes = bytes_for_spans(recipe, plan);
  int64_t again = 0, known = 0;
  for (PhasePlan& phase : plan.phases) {
    const int64_t whole = phase.plain.saved;
    plan.kept = train::share_out(plan.span_bytes, plan.data.most_pieces - 1, phase.products, whole);
    plan.kept_bytes = plan.kept.whole * whole + plan.kept.products * phase.products;
    phase.plain.saved += plan.kept_bytes;
    if (&phase != &plan.phases.back()) continue;
    for (const int64_t pieces : plan.data.cut) {
      const train::SpanShare share = train::share_out(plan.span_bytes, pieces, phase.products, whole);
      again += pieces - share.whole, known += share.products;
    }
  }
  const double tokens = static_cast<double>(recipe.training.span_length) / static_cast<double>(plan.data.looked) *
                        static_cast<double>(recipe.training.gradient_accumulation_steps);
  plan.data.step_again = tokens * static_cast<double>(again);
  plan.data.step_known = tokens * static_cast<double>(known);
}

/// How often the trainer evaluates: see train/trainer.cc.
int64_t count_evaluations(const Recipe& recipe, const DataPlan& data, int64_t steps) {
  const double every =
      recipe.training.eval_steps > 0 ? static_cast<double>(recipe.training.eval_steps) : data.steps_per_epoch;
  return static_cast<int64_t>(std::ceil(static_cast<double>(steps) / std::max(1.0, every)));
}

double step_seconds(const StepRates& r, const DataPlan& data, int layers, int lowest, int64_t trainable) {
  const double layer = r.layer_forward + r.layer_backward;
  return data.step_tokens * (lowest * r.plain_forward + (layers - lowest) * layer) +
         data.step_again * layers * r.plain_forward -
         // The second run begins at the lowest layer that trains, and does not multiply.
         data.step_known *
             (lowest * r.plain_forward + (layers - lowest) * std::max(0.0, r.layer_forward - r.known_forward)) +
         data.step_labelled * r.head + static_cast<double>(trainable) * r.update;
}

/// `new_size`: see measure_new_size(); measured if it is 0, and kept for the next plan.
RunPlan plan_of(const Recipe& recipe, const PreparedRun& prepared, double seconds, double& new_size) {
  const nn::LanguageModel& model = *prepared.base.model;
  RunPlan plan;
  plan.model = recipe.model.empty() ? "from scratch" : recipe.model;
  plan.layers = static_cast<int64_t>(model.plan().layers.size());
  plan.d_model = model.plan().d_model;
  plan.vocabulary = model.plan().vocabulary;
  plan.precision = model.precision();
  plan.max_memory = recipe.most_memory();
  plan.recompute = recipe.training.recompute;
  if (prepared.base.checkpoint) models::check_weights(prepared.base);

  Outline outline(recipe, prepared.base);
  for (const auto& method : outline.methods) {
    plan.methods.push_back({method->name(), method->coverage(), method->trainable_count()});
    plan.trainable += method->trainable_count();
  }
  plan.total = model.parameter_count() + (trains_whole_model(outline.methods, model) ? 0 : plan.trainable);
  check_product(recipe, outline.methods, model);
  train::check_steps(method_list(outline.methods), recipe.training, *prepared.stream);
  const std::vector<nn::Phase> phases = train::phases_of(method_list(outline.methods));
  int64_t run = 0;
  for (const nn::Phase& phase : phases)
    run = std::max(
        run, train::steps_of(phase, recipe.training, *prepared.stream) * recipe.training.gradient_accumulation_steps);
  plan.data = plan_data(recipe, prepared, run);
  const std::vector<data::Batch> batches =
      typical_batches(*prepared.stream, {.batches = run, .span = recipe.training.span_length});
  const data::Source* judged = prepared.data.test ? prepared.data.test.get() : prepared.data.validation.get();
  const bool keeps_best = recipe.training.load_best_model_at_end && prepared.data.validation;
  const int layers = static_cast<int>(plan.layers);

  std::vector<std::unique_ptr<Probe>> probes;
  for (size_t i = 0; i < phases.size(); ++i) {
    outline.begin(i);
    const bool last = i + 1 == phases.size();
    PhasePlan phase;
    phase.name = phases[i].name;
    phase.steps = train::steps_of(phases[i], recipe.training, *prepared.stream);
    phase.trainable = outline.trainable();
    probes.push_back(std::make_unique<Probe>(outline.loaded, recipe.methods,
                                             Probe::Options{.phase = i, .seed = static_cast<uint64_t>(recipe.seed)}));
    if (new_size == 0 && plan.data.sizes > 1) new_size = measure_new_size(*probes.back(), batches[0]);
    const ForecastInputs inputs{.base = outline.loaded,
                                .edits = outline.edits,
                                .trainable = phase.trainable,
                                .kept = last ? (keeps_best ? phase.trainable : 0) : outline.base_trainable(),
                                .most_rows = plan.data.most_tokens,
                                .new_size = new_size,
                                .carries = plan.data.most_pieces - 1,
                                .sizes = plan.data.sizes,
                                .batches = batches,
                                .judged = judged};
    // Pieces of a long sample are not recomputed layer by layer: they hand a state on.
    phase.recomputed = forecast_memory(*probes.back(), inputs, plan.data.most_pieces == 1);
    phase.plain = forecast_memory(*probes.back(), inputs, false);
    if (!plan.data.cut.empty() && !plan.recompute) phase.products = forecast_products(*probes.back(), inputs);
    plan.phases.push_back(phase);
    if (seconds == 0) probes.back().reset();
  }
  if (plan.max_memory > 0 && !plan.recompute) {
    plan.recompute = choose_recompute(plan.max_memory, plan.memory(false), plan.memory(true), plan.data.most_tokens,
                                      plan.data.most_pieces > 1);
    plan.chosen = plan.recompute;
  } else if (plan.max_memory > 0) {
    choose_recompute(plan.max_memory, plan.memory(true), plan.memory(true), plan.data.most_tokens,
                     plan.data.most_pieces > 1);
  }

  plan_spans(recipe, plan);

  const bool recomputes = plan.recompute && plan.data.most_pieces == 1;
  if (prepared.data.validation) plan.evaluations = count_evaluations(recipe, plan.data, plan.training().steps);
  for (size_t i = 0; i < phases.size(); ++i) {
    outline.begin(i);
    PhasePlan& phase = plan.phases[i];
    phase.flops = count_flops(*outline.loaded.model, outline.edits, recomputes);
    // Of a second run with known products next to nothing is left.
    phase.step_flops = phase.flops.step(plan.data.step_tokens, plan.data.step_labelled) +
                       (plan.data.step_again - plan.data.step_known) * phase.flops.forward;
    if (seconds == 0) continue;
    phase.rates = calibrate(*probes[i], batches,
                            {.recompute = recomputes,
                             .known = plan.data.step_known > 0,
                             .seconds = seconds / static_cast<double>(phases.size())});
    phase.step_seconds =
        step_seconds(phase.rates, plan.data, layers, nn::lowest_trained_layer(model, outline.edits), phase.trainable);
    probes[i].reset();
  }
  const StepRates& rates = plan.training().rates;
  plan.evaluation_seconds =
      static_cast<double>(plan.evaluations) *
      (static_cast<double>(plan.data.validation_tokens) * static_cast<double>(layers) * rates.plain_forward +
       static_cast<double>(plan.data.validation_labelled) * rates.plain_head);
  trim_memory();
  return plan;
}

OrderedJson memory_json(const MemoryPlan& m) {
  return {{"total", m.total()},   {"program", m.program},       {"mapped", m.mapped},
          {"weights", m.weights}, {"trainables", m.trainables}, {"optimizer", m.optimizer},
          {"best", m.best},       {"saved", m.saved},           {"work", m.work}};
}

}  // namespace

int64_t RunPlan::steps() const {
  int64_t sum = 0;
  for (const PhasePlan& phase : phases) sum += phase.steps;
  return sum;
}

double RunPlan::seconds() const {
  double sum = evaluation_seconds;
  for (const PhasePlan& phase : phases) sum += static_cast<double>(phase.steps) * phase.step_seconds;
  return sum;
}

MemoryPlan RunPlan::memory(bool recomputed) const {
  MemoryPlan most;
  for (const PhasePlan& phase : phases) {
    const MemoryPlan& m = recomputed ? phase.recomputed : phase.plain;
    if (m.total() > most.total()) most = m;
  }
  return most;
}

RunPlan make_plan(const Recipe& recipe, const PreparedRun& prepared, const PlanOptions& options) {
  double new_size = 0;
  return plan_of(recipe, prepared, options.seconds, new_size);
}

MemoryFit fit_memory(const Recipe& recipe, const PreparedRun& prepared,
                     const std::function<void(const std::string&)>& say) {
  double new_size = 0;
  const RunPlan plan = plan_of(recipe, prepared, 0, new_size);
  say(str("  max_memory ", format_bytes(plan.max_memory), ": about ", format_bytes(plan.memory(false).total()),
          " needed",
          plan.recompute
              ? str(", ", format_bytes(plan.memory(true).total()), " with recompute", plan.chosen ? ", now on" : "")
              : std::string()));
  return {.recompute = plan.recompute, .span_bytes = plan.span_bytes};
}

std::vector<RunPlan> make_plans(const std::string& path, const std::vector<std::string>& overrides,
                                const PlanOptions& options) {
  YamlNode root = YamlNode::read_file(path);
  std::vector<Variant> variants;
  if (root.has("compare")) {
    std::string output_dir;
    variants = read_variants(path, overrides, {}, output_dir);
  } else {
    variants.push_back({.recipe = Recipe::read(path, overrides)});
  }
  std::vector<RunPlan> plans;
  double new_size = 0;
  for (const Variant& v : variants) {
    RunPlan plan;
    if (v.plain) {
      plan.plain = true;
    } else {
      plan =
          plan_of(v.recipe, prepare_run(v.recipe, {.outline = true, .sink = options.sink}), options.seconds, new_size);
    }
    plan.name = v.name;
    plans.push_back(std::move(plan));
  }
  return plans;
}

OrderedJson plan_json(const RunPlan& plan) {
  OrderedJson json;
  if (!plan.name.empty()) json["name"] = plan.name;
  if (plan.plain) {
    json["trainable_parameters"] = 0;
    return json;
  }
  json["model"] = plan.model;
  json["layers"] = plan.layers;
  json["d_model"] = plan.d_model;
  json["base_dtype"] = dtype_word(plan.precision.base);
  json["compute"] = dtype_word(plan.precision.compute);
  json["trainable_parameters"] = plan.trainable;
  json["total_parameters"] = plan.total;
  json["methods"] = OrderedJson::array();
  for (const MethodPlan& m : plan.methods)
    json["methods"].push_back({{"name", m.name}, {"coverage", m.coverage}, {"trainable_parameters", m.trainable}});
  json["examples"] = plan.data.examples;
  json["tokens_per_epoch"] = plan.data.tokens;
  json["labelled_tokens_per_epoch"] = plan.data.labelled;
  json["steps_per_epoch"] = plan.data.steps_per_epoch;
  json["tokens_per_step"] = plan.data.step_tokens;
  json["steps"] = plan.steps();
  json["recompute"] = plan.recompute;
  json["spans_run_once"] = plan.kept.whole;
  json["spans_with_known_products"] = plan.kept.products;
  json["spans_keep_bytes"] = plan.kept_bytes;
  json["peak_memory_bytes"] = plan.memory().total();
  json["memory"] = memory_json(plan.memory(false));
  json["memory_with_recompute"] = memory_json(plan.memory(true));
  json["phases"] = OrderedJson::array();
  for (const PhasePlan& p : plan.phases) {
    json["phases"].push_back({{"name", p.name},
                              {"steps", p.steps},
                              {"trainable_parameters", p.trainable},
                              {"flops_per_token", p.step_flops / plan.data.step_tokens},
                              {"flops_per_step", p.step_flops},
                              {"seconds_per_step", p.step_seconds},
                              {"tokens_per_second", p.step_seconds > 0 ? plan.data.step_tokens / p.step_seconds : 0.0},
                              {"rates",
                               {{"plain_forward", p.rates.plain_forward},
                                {"plain_head", p.rates.plain_head},
                                {"layer_forward", p.rates.layer_forward},
                                {"known_forward", p.rates.known_forward},
                                {"layer_backward", p.rates.layer_backward},
                                {"head", p.rates.head},
                                {"update", p.rates.update}}}});
  }
  json["evaluations"] = plan.evaluations;
  json["evaluation_seconds"] = plan.evaluation_seconds;
  json["training_seconds"] = plan.seconds() - plan.evaluation_seconds;
  return json;
}

}  // namespace molt::app

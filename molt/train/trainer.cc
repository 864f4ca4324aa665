#include "molt/train/trainer.h"

#include <chrono>
#include <cmath>
#include <set>

#include "molt/base/error.h"
#include "molt/base/system.h"
#include "molt/io/finite.h"
#include "molt/io/mapped_file.h"
#include "molt/optim/adamw.h"
#include "molt/optim/clip.h"
#include "molt/optim/schedule.h"
#include "molt/train/checkpoint.h"
#include "molt/train/span_pass.h"

namespace molt::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

io::NamedTensors copied(const io::NamedTensors& tensors) {
  io::NamedTensors out;
  for (const auto& [name, tensor] : tensors) out.emplace_back(name, tensor.clone());
  return out;
}

constexpr const char* kDamaged = "; remove this checkpoint to go on from the one before it";

/// Binds every method and returns what trains. Throws UsageError where that makes no sense.
std::vector<optim::Parameter> bind_all(const std::vector<nn::Method*>& methods, const TrainConfig& config,
                                       nn::EditSet& edits) {
  std::vector<optim::Parameter> parameters;
  std::set<std::string> names;
  for (const nn::Method* method : methods) {
    const nn::Rates& rates = method->rates;
    if (rates.learning_rate && !(*rates.learning_rate > 0 && config.learning_rate > 0))
      usage_error(method->name(), ": learning_rate must be above 0, and the recipe's too, is ", *rates.learning_rate);
    const double scale = rates.learning_rate ? *rates.learning_rate / config.learning_rate : 1;
    auto add = [&](const nn::Trainable& t) {
      if (!names.insert(t.name).second)
        usage_error("method: ", t.name, " is trained by two methods; give each a target of its own");
      parameters.push_back({.name = t.name,
                            .var = t.var,
                            .lr_scale = t.lr_scale * scale,
                            .decay = t.decays,
                            .weight_decay = rates.weight_decay});
    };
    const size_t first = edits.all().size();
    method->bind(edits);
    for (size_t i = first; i < edits.all().size(); ++i) {
      for (const nn::Trainable& t : edits.all()[i].second->trainables()) add(t);
    }
    for (const nn::Trainable& t : method->base_trainables()) add(t);
  }
  if (parameters.empty()) usage_error("method: nothing trains; name at least one method");
  return parameters;
}

}  // namespace

int64_t steps_of(const nn::Phase& phase, const TrainConfig& config, const data::BatchStream& stream) {
  if (phase.steps > 0) return phase.steps;
  if (config.max_steps > 0) return config.max_steps;
  const double whole = std::floor(config.num_train_epochs), part = config.num_train_epochs - whole;
  const double batches = static_cast<double>(stream.steps_in(static_cast<int64_t>(whole))) +
                         part * static_cast<double>(stream.steps_per_epoch(static_cast<int64_t>(whole)));
  const double per_step = static_cast<double>(config.gradient_accumulation_steps);
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(batches / per_step)));
}

void check_steps(const std::vector<nn::Method*>& methods, const TrainConfig& config, const data::BatchStream& stream) {
  const std::vector<nn::Phase> phases = phases_of(methods);
  for (const nn::Phase& phase : phases) optim::Schedule(config.schedule, steps_of(phase, config, stream));
  for (const nn::Method* method : methods) method->check_steps(steps_of(phases.back(), config, stream));
}

void check_run(const std::vector<nn::Method*>& methods, const TrainConfig& config, const data::BatchStream& stream) {
  check_steps(methods, config, stream);
  check_trainables(methods, config);
}

void check_trainables(const std::vector<nn::Method*>& methods, const TrainConfig& config) {
  nn::EditSet edits;
  bind_all(methods, config, edits);
}

std::vector<nn::Phase> phases_of(const std::vector<nn::Method*>& methods) {
  std::vector<nn::Phase> phases;
  for (const nn::Method* method : methods) {
    std::vector<nn::Phase> own = method->phases();
    if (own.size() > 1 && phases.size() > 1)
      usage_error("method: two methods with phases of their own cannot be combined");
    if (own.size() > phases.size()) phases = std::move(own);
  }
  if (phases.empty()) phases.push_back({"train"});  // no method: bind() says that nothing trains
  return phases;
}

struct Trainer::Impl {
  nn::LanguageModel& model;
  std::vector<nn::Method*> methods;
  data::BatchStream& stream;
  TrainConfig config;
  uint64_t seed;
  const RunDirectory* run_dir;
  std::string identity;
  TrainHooks hooks;

  int64_t span_bytes = 0;  // see SpanConfig::keep
  Json extra = {};         // of the checkpoint that was resumed
  nn::EditSet edits = {};
  std::unique_ptr<optim::AdamW> optimizer = {};
  std::unique_ptr<optim::Schedule> schedule = {};
  std::vector<nn::Phase> phases = {};
  /// What trains of the base itself, with a copy of its first values, for as long as a phase is to come that needs
  /// them.
  std::vector<std::pair<Var, Tensor>> base_start = {};
  size_t phase = 0;
  int64_t phase_step = 0, phase_steps = 0;  // within the phase
  int64_t step = 0;                         // over all phases
  int64_t tokens = 0;
  double seconds = 0;
  double last_loss = 0;
  double best_loss = 0;
  int64_t best_step = -1;
  std::vector<io::NamedTensors> best = {};  // per method

  int64_t steps_of(size_t i) const { return train::steps_of(phases[i], config, stream); }

  int64_t total() const {
    int64_t sum = 0;
    for (size_t i = 0; i < phases.size(); ++i) sum += steps_of(i);
    return sum;
  }

  bool last_phase() const { return phase + 1 == phases.size(); }

  void bind_edits() {
    edits.clear();
    for (const nn::Method* method : methods) method->bind(edits);
  }

  void bind() {
    edits.clear();
    optimizer = std::make_unique<optim::AdamW>(bind_all(methods, config, edits), config.adamw);
  }

  void make_schedule() {
    phase_steps = steps_of(phase);
    schedule = std::make_unique<optim::Schedule>(config.schedule, phase_steps);
  }

  void keep_base() {
    if (phases.size() < 2) return;
    for (const nn::Method* method : methods) {
      for (const nn::Trainable& t : method->base_trainables()) base_start.emplace_back(t.var, t.var.value().clone());
    }
  }

  /// First of all: what others begin with may be made of the base.
  void restore_base() {
    for (const auto& [var, start] : base_start) {
      Tensor value = var.value();
      value.copy_from(start);
    }
    for (nn::Method* method : methods) {
      if (!method->base_trainables().empty()) method->after_step();
    }
    if (last_phase()) base_start.clear();
  }

  void begin_phase(size_t index) {
    phase = index;
    phase_step = 0;
    if (index > 0) restore_base();
    for (nn::Method* method : methods) method->begin_phase(static_cast<int>(index));
    observe();
    if (phases[index].restart_data) stream.seek({0, 0});
    bind();
    make_schedule();
    if (phases.size() > 1 && hooks.on_note)
      hooks.on_note({step, str("phase '", phases[index].name, "': ", phase_steps, " steps")});
  }

  /// What of a step is not finite, from its first batch on, by name: a trained tensor, an op's result or a gradient.
  std::string what_is_not_finite(const data::Position& at, double loss) {
    for (const optim::Parameter& p : optimizer->parameters())
      if (!io::all_finite(p.var.value())) return p.name;
    if (std::isfinite(loss)) {
      for (const optim::Parameter& p : optimizer->parameters())
        if (p.var.grad().defined() && !io::all_finite(p.var.grad())) return "the gradient of " + p.name;
      return "the norm of the gradients";
    }
    // The same passes again, with the same random draws, looking at every op.
    std::string found;
    OpObserver observer([&](const char* op, const Tensor& output) {
      if (!found.empty() || !output.defined() || io::all_finite(output)) return;
      const auto layers = static_cast<int>(model.plan().layers.size());
      found = str("what ", op, " gives in ",
                  observer.layer < 0         ? std::string("the embedding")
                  : observer.layer == layers ? std::string("the head")
                                             : str("layer ", observer.layer));
    });
    const NoGrad no_grad;
    stream.seek(at);
    int64_t rows = 0;
    for (int64_t micro = 0; micro < config.gradient_accumulation_steps && found.empty(); ++micro) {
      const data::Batch batch = stream.next();
      nn::Context c = context();
      c.segments = &batch.segments;
      c.first_row = rows;
      model.loss(c, model.hidden(c, batch.ids), batch.labels);
      rows += batch.rows();
    }
    return found.empty() ? "the loss" : found;
  }

  /// Names what went wrong, so that a user can act: the step, the tensor, what is kept.
  [[noreturn]] void stop_on_nan(const data::Position& at, double loss) {
    if (std::isnan(loss)) loss = NAN;  // without a sign
    system_error("training: step ", step + 1, ": ", what_is_not_finite(at, loss), " is not finite (loss ", loss,
                 "); nothing was updated", what_is_kept());
  }

  /// The end of such a message.
  std::string what_is_kept() const {
    const std::vector<int64_t> kept = run_dir ? run_dir->checkpoint_steps() : std::vector<int64_t>();
    return str(kept.empty() ? std::string() : str(", ", run_dir->path(), " keeps the checkpoint of step ", kept.back()),
               "; try a lower learning_rate, more warmup_steps or compute: f32");
  }

  nn::Context context() const {
    nn::Context c;
    c.edits = &edits;
    c.training = true;
    c.seed = seed;
    c.step = static_cast<uint64_t>(step);
    c.phase_step = phase_step;
    c.phase_steps = phase_steps;
    c.recompute = config.recompute;
    return c;
  }

  StepRecord do_step() {
    const auto start = Clock::now();
    StepRecord record;
    double loss = 0;
    const data::Position at = stream.position();
    nn::Context c = context();
    for (int64_t micro = 0; micro < config.gradient_accumulation_steps; ++micro) {
      const data::Batch batch = stream.next();
      c.first_row = record.tokens;
      const PassLoss part = run_pass(
          model, c, batch, {.length = config.span_length, .truncated = config.truncated_backprop, .keep = span_bytes});
      record.tokens += batch.rows();
      record.labelled_tokens += part.count;
      loss += part.sum;
    }
    if (record.labelled_tokens == 0) usage_error("data: step ", step + 1, " holds no labelled token");
    loss /= static_cast<double>(record.labelled_tokens);
    const double scale = 1 / static_cast<double>(record.labelled_tokens);
    for (nn::Method* method : methods) method->before_step({phase_step, phase_steps, scale, last_phase()});
    const double norm = optim::grad_norm(optimizer->parameters()) * scale;
    if (!std::isfinite(loss) || !std::isfinite(norm)) stop_on_nan(at, loss);
    record.lr = config.learning_rate * schedule->factor(phase_step);
    optimizer->step(record.lr, scale * optim::clip_scale(norm, config.max_grad_norm));
    for (nn::Method* method : methods) method->after_step();
    ++step;
    ++phase_step;
    tokens += record.tokens;
    last_loss = loss;
    const double took = seconds_since(start);
    seconds += took;
    record.step = step;
    record.epoch = epoch();
    record.loss = loss;
    record.grad_norm = norm;
    record.tokens_per_second = static_cast<double>(record.tokens) / took;
    record.seconds = seconds;
    record.memory_mib = static_cast<double>(process_memory().resident) / (1 << 20);
    return record;
  }

  double epoch() const {
    const data::Position at = stream.position();
    return static_cast<double>(at.epoch) +
           static_cast<double>(at.batch) / static_cast<double>(std::max<int64_t>(1, stream.steps_per_epoch(at.epoch)));
  }

  void evaluate() {
    if (!hooks.evaluate) return;
    const Scores scores = hooks.evaluate(edits);
    if (scores.empty()) return;
    if (hooks.on_eval) hooks.on_eval({step, "validation", scores});
    if (!last_phase()) return;
    const double loss = scores[0].second;
    if (!std::isfinite(loss)) return;
    if (best_step < 0 || loss < best_loss) {
      best_loss = loss;
      best_step = step;
      best.clear();
      if (config.load_best_model_at_end) {
        for (const nn::Method* method : methods) best.push_back(copied(method->state()));
      }
    }
  }

  void save() {
    if (!run_dir) return;
    Checkpoint checkpoint;
    checkpoint.step = step;
    checkpoint.state = {{"identity", identity},   {"phase", phase},         {"phase_step", phase_step},
                        {"tokens", tokens},       {"seconds", seconds},     {"last_loss", last_loss},
                        {"best_loss", best_loss}, {"best_step", best_step}, {"stream", stream.save()}};
    if (hooks.extra) checkpoint.state["extra"] = hooks.extra();
    for (size_t m = 0; m < methods.size(); ++m) {
      for (const auto& [name, t] : methods[m]->state())
        checkpoint.tensors.emplace_back(str("method.", m, "/", name), t);
      if (m < best.size()) {
        for (const auto& [name, t] : best[m]) checkpoint.tensors.emplace_back(str("best.", m, "/", name), t);
      }
    }
    for (const auto& [name, t] : optimizer->state()) checkpoint.tensors.emplace_back("optimizer/" + name, t);
    // A step whose gradients were sound can end in values that are not; the checkpoint before it must not go for them.
    for (const auto& [name, t] : checkpoint.tensors) {
      if (!io::all_finite(t))
        system_error("training: step ", step, ": ", name.substr(name.find('/') + 1),
                     " is not finite after the update (loss ", last_loss, "); no checkpoint was written",
                     what_is_kept());
    }
    write_checkpoint(*run_dir, checkpoint, config.save_total_limit);
  }

  int64_t resume() {
    if (!run_dir) return 0;
    const auto checkpoint = read_last_checkpoint(*run_dir);
    if (!checkpoint) return 0;
    try {
      restore(*checkpoint);
    } catch (const Json::exception& error) {
      usage_error(run_dir->checkpoint(checkpoint->step), "/state.json: is damaged: ", error.what(), kDamaged);
    }
    return step;
  }

  void restore(const Checkpoint& checkpoint) {
    const Json& state = checkpoint.state;
    extra = state.value("extra", Json());
    if (state.at("identity") != identity)
      usage_error(run_dir->path(),
                  ": cannot be resumed: its checkpoint was made by another recipe or from another base model; use the "
                  "old ones, "
                  "or another output_dir");
    phase = state.at("phase").get<size_t>();
    if (phase >= phases.size()) usage_error(run_dir->path(), ": checkpoint names phase ", phase, " of ", phases.size());
    if (last_phase()) base_start.clear();
    for (size_t m = 0; m < methods.size(); ++m) {
      methods[m]->load_state(with_prefix(checkpoint.tensors, str("method.", m, "/")));
      const io::NamedTensors kept = with_prefix(checkpoint.tensors, str("best.", m, "/"));
      if (!kept.empty()) best.push_back(copied(kept));
    }
    bind();
    optimizer->load_state(with_prefix(checkpoint.tensors, "optimizer/"));
    make_schedule();
    step = checkpoint.step;
    phase_step = state.at("phase_step").get<int64_t>();
    if (phase_step < 0 || phase_step > phase_steps || step < phase_step)
      usage_error(run_dir->path(), ": checkpoint of step ", step, " names step ", phase_step, " of ", phase_steps,
                  " in phase ", phase, kDamaged);
    tokens = state.at("tokens").get<int64_t>();
    seconds = state.at("seconds").get<double>();
    last_loss = state.at("last_loss").get<double>();
    best_loss = state.at("best_loss").get<double>();
    best_step = state.at("best_step").get<int64_t>();
    try {
      stream.restore(state.at("stream"));
    } catch (const UsageError& error) {
      usage_error(run_dir->path(), ": cannot be resumed: ", error.what());
    }
  }

  /// Before a phase: shows methods the first batches of the data, where they want to see some; the stream does not
  /// move.
  void observe() {
    for (nn::Method* method : methods) {
      const int64_t batches = method->observed_batches();
      if (batches <= 0) continue;
      const NoGrad no_grad;
      nn::EditSet looking;
      method->observe(looking);
      const int64_t there = stream.steps_per_epoch(0);
      for (int64_t b = 0; b < std::min(batches, there); ++b) {
        const data::Batch batch = stream.at(0, b);
        model.hidden({.segments = &batch.segments, .edits = &looking, .labels = &batch.labels}, batch.ids);
      }
      method->observed();
      if (hooks.on_note)
        hooks.on_note({step, str(method->name(), ": initial values from ", std::min(batches, there), " batches")});
    }
  }

  /// A disk that cannot hold a checkpoint is found before hours are spent.
  void require_room() const {
    if (!run_dir) return;
    uint64_t bytes = 0;
    for (const optim::Parameter& p : optimizer->parameters()) bytes += 3 * p.var.value().bytes();  // with two moments
    io::require_disk_room(run_dir->path() + "/checkpoints", bytes);
  }

  TrainResult run() {
    // Before anything runs: later phases must not refuse what the first has taken hours for.
    check_steps(methods, config, stream);
    if (!optimizer) begin_phase(0);
    require_room();
    // What a process left that was killed while it removed checkpoints; there may be no further one to write.
    if (run_dir) run_dir->keep_checkpoints(static_cast<int>(config.save_total_limit));
    const int64_t total_steps = total();
    bool stopped = false;
    while (!stopped) {
      while (phase_step < phase_steps && !stopped) {
        const int64_t epoch_before = stream.position().epoch;
        const StepRecord record = do_step();
        if (hooks.on_step) hooks.on_step(record, total_steps);
        const bool phase_done = phase_step == phase_steps, epoch_done = stream.position().epoch != epoch_before;
        const bool eval_now =
            last_phase() && (phase_done || (config.eval_steps > 0 ? phase_step % config.eval_steps == 0 : epoch_done));
        if (eval_now) evaluate();
        stopped = hooks.should_stop && hooks.should_stop();
        const bool save_now =
            config.save_steps > 0 ? phase_step % config.save_steps == 0 : (eval_now || (!last_phase() && epoch_done));
        if (save_now || phase_done || stopped) save();
      }
      if (stopped || last_phase()) break;
      begin_phase(phase + 1);
    }
    const bool finished = last_phase() && phase_step == phase_steps;
    if (finished && !best.empty()) {
      for (size_t m = 0; m < methods.size(); ++m) methods[m]->load_state(best[m]);
      bind_edits();  // a method may have made its edits anew
    }
    return {.finished = finished,
            .steps = step,
            .tokens = tokens,
            .seconds = seconds,
            .last_loss = last_loss,
            .best_step = best_step,
            .best_loss = best_loss};
  }
};

Trainer::Trainer(nn::LanguageModel& model, std::vector<nn::Method*> methods, data::BatchStream& stream,
                 TrainConfig config, uint64_t seed, const RunDirectory* run, std::string identity, TrainHooks hooks)
    : impl_(new Impl{.model = model,
                     .methods = std::move(methods),
                     .stream = stream,
                     .config = std::move(config),
                     .seed = seed,
                     .run_dir = run,
                     .identity = std::move(identity),
                     .hooks = std::move(hooks)}) {
  impl_->phases = phases_of(impl_->methods);
  impl_->keep_base();
  if (impl_->config.span_length > 0) impl_->span_bytes = impl_->config.span_bytes();
}

Trainer::~Trainer() = default;

int64_t Trainer::resume() { return impl_->resume(); }
const Json& Trainer::extra() const { return impl_->extra; }
TrainResult Trainer::run() { return impl_->run(); }
const nn::EditSet& Trainer::edits() const { return impl_->edits; }
int64_t Trainer::total_steps() const { return impl_->total(); }

}  // namespace molt::train

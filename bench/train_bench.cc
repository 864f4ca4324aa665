// A whole training step at the shape of a real model, with random weights made in memory: tokens per second, peak
// memory, where the time goes, and how fast the same parts run alone in the same process.
//   train_bench [--shape mamba-130m] [--precision bf16|f32|int8|int8-int8] [--threads 2] [--steps 5]
//               [--method lora|lora-out-x|sdt|full|prompt|decode|'{ia3: {}}'] [--recompute]
//               [--segment 512] [--batch 1] [--labelled 1.0] [--span 0] [--keep 0] [--no-ceilings] [--json]
// int8 is a base in 8 bits whose products have operands of 16, int8-int8 one whose products have 8.
// With --steps 0 the first step is what is measured, with all that stands before it: for steps that take minutes.
// prompt reads --batch segments and computes the logits of their last tokens; decode continues each by one token a
// step; a map is taken as a recipe's method. Rates are given twice: by wall time, and by processor time over threads,
// which other programs disturb less.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bench/reading.h"
#include "molt/app/methods.h"
#include "molt/autograd/op_times.h"
#include "molt/base/json.h"
#include "molt/base/rng.h"
#include "molt/base/system.h"
#include "molt/device/cpu_info.h"
#include "molt/nn/language_model.h"
#include "molt/nn/method.h"
#include "molt/ops/conv.h"
#include "molt/ops/cross_entropy.h"
#include "molt/ops/rms_norm.h"
#include "molt/ops/scan.h"
#include "molt/optim/adamw.h"
#include "molt/optim/clip.h"
#include "molt/peft/full.h"
#include "molt/peft/lora.h"
#include "molt/peft/sdt.h"
#include "molt/tensor/matrix_view.h"
#include "molt/train/span_pass.h"

namespace molt::bench {
namespace {

struct Options {
  std::string shape = "mamba-130m", method = "lora", precision = "bf16";
  int64_t segment = 512, span = 0, keep = 0, batch = 1, steps = 5;
  int threads = 0;
  double labelled = 1;
  bool recompute = false, no_ceilings = false, json = false;
};

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

nn::LanguageModelPlan plan_of(const std::string& shape) {
  struct Row {
    const char* name;
    int64_t width, layers, vocabulary;
  };
  static const Row kRows[] = {{"tiny", 64, 2, 512},
                              {"base", 256, 8, 4096},
                              {"mamba-130m", 768, 24, 50280},
                              {"mamba-370m", 1024, 48, 50280},
                              {"mamba-790m", 1536, 48, 50280},
                              {"mamba-1.4b", 2048, 48, 50280}};
  for (const Row& row : kRows) {
    if (shape != row.name) continue;
    nn::LanguageModelPlan plan;
    plan.family = "mamba";
    plan.vocabulary = row.vocabulary, plan.d_model = row.width;
    const nn::MambaConfig mixer{.d_model = row.width, .d_inner = 2 * row.width, .dt_rank = (row.width + 15) / 16};
    plan.layers.assign(static_cast<size_t>(row.layers), {mixer});
    return plan;
  }
  usage_error("--shape: tiny, base, mamba-130m, mamba-370m, mamba-790m or mamba-1.4b, got ", shape);
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

/// Values a model might have, in memory that does not stay: the pool never sees it, as it never sees a mapped file.
Tensor weights_for(const nn::Parameter& p) {
  const auto values = std::make_shared<std::vector<float>>(static_cast<size_t>(shape_numel(p.shape)));
  static const std::vector<float> normal = [] {
    std::vector<float> v(65521);
    const Rng rng(7);
    for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(rng.normal(i));
    return v;
  }();
  const int64_t cols = p.shape.back();
  const size_t start = static_cast<size_t>(hash_name(p.path) % normal.size());
  const bool decay = ends_with(p.path, "A_log"), gain = p.shape.size() == 1 && !ends_with(p.path, "bias");
  float scale = 0.1f, shift = 0;
  if (ends_with(p.path, "dt_proj.bias"))
    scale = 0.8f, shift = -4.6f;
  else if (p.lookup)
    scale = 0.02f;
  else if (p.product)
    scale = 1 / std::sqrt(static_cast<float>(cols));
  for (size_t i = 0, at = start; i < values->size(); ++i) {
    (*values)[i] = decay  ? std::log(static_cast<float>(i % static_cast<size_t>(cols) + 1))
                   : gain ? 1.0f
                          : shift + scale * normal[at];
    if (++at == normal.size()) at = 0;
  }
  return Tensor::wrap(values->data(), p.shape, Dtype::kF32, values);
}

std::vector<std::unique_ptr<nn::Method>> methods_of(const Options& o) {
  std::vector<std::unique_ptr<nn::Method>> methods;
  const auto lora = [&](std::vector<std::string> targets) {
    peft::LoraConfig c;
    c.target_modules = std::move(targets);
    methods.push_back(std::make_unique<peft::Lora>(c, 1, Dtype::kF32));
  };
  if (o.method == "lora") {
    lora({"in_proj", "x_proj", "out_proj"});
  } else if (o.method == "lora-out-x") {
    lora({"out_proj", "x_proj"});
  } else if (o.method == "sdt") {
    methods.push_back(std::make_unique<peft::Sdt>(peft::SdtConfig{}, Dtype::kF32));
    lora({"out_proj"});
  } else if (o.method == "prompt" || o.method == "decode") {
    return methods;
  } else if (o.method == "full") {
    methods.push_back(std::make_unique<peft::Full>());
  } else if (!o.method.empty() && o.method[0] == '{') {
    return app::make_methods(app::read_methods(app::YamlNode::parse(o.method, "--method")), 1, Dtype::kF32);
  } else {
    usage_error("--method: lora, lora-out-x, sdt, full, prompt, decode or a map such as '{ia3: {}}', got ", o.method);
  }
  return methods;
}

nn::Precision precision_of(const std::string& word) {
  if (word == "f32") return {Dtype::kF32, Dtype::kF32};
  if (word == "bf16") return {Dtype::kBf16, Dtype::kBf16};
  if (word == "int8") return {Dtype::kI8, Dtype::kBf16};
  if (word == "int8-int8") return {Dtype::kI8, Dtype::kI8};
  usage_error("--precision: f32, bf16, int8 or int8-int8, got ", word);
}

/// One model under one method, and its training step.
class Run {
 public:
  explicit Run(const Options& o)
      : o_(o), precision_(precision_of(o.precision)), model(plan_of(o.shape), precision_), methods_(methods_of(o)) {
    for (const auto& m : methods_) m->declare(model.sites(), model.parameters());
    for (nn::Parameter& p : model.parameters()) p.set(weights_for(p), precision_, !methods_.empty());
    for (const auto& m : methods_) m->attach(model.sites());
    const int64_t tokens = o.segment * o.batch,
                  every = std::max<int64_t>(1, std::llround(1 / std::max(o.labelled, 1e-6)));
    for (int64_t s = 0; s < o.batch; ++s) segments_.append(o.segment);
    for (int64_t t = 0; t < tokens; ++t) {
      ids_.push_back(static_cast<int32_t>(t * 7919 % model.plan().vocabulary));
      labels_.push_back(o.labelled > 0 && t % every == 0 ? static_cast<int32_t>(t * 104729 % model.plan().vocabulary)
                                                         : -100);
    }
    for (const auto& m : methods_) observe(*m);
    bind();
    for (const auto& m : methods_) last_phase(*m);
    trim_memory();
  }

  double step() { return methods_.empty() ? inference() : training(); }

  /// Tokens that a step processes.
  int64_t tokens() const { return o_.method == "decode" ? o_.batch : static_cast<int64_t>(ids_.size()); }
  int64_t labelled() const {
    return std::count_if(labels_.begin(), labels_.end(), [](int32_t l) { return l >= 0; });
  }
  int64_t trainable_count() const { return optimizer_->trainable_count(); }
  const Segments& segments() const { return segments_; }

 private:
  /// Shows a method that looks at data before it trains the segments of the bench.
  void observe(nn::Method& m) {
    if (m.observed_batches() == 0) return;
    const NoGrad no_grad;
    nn::EditSet looking;
    m.observe(looking);
    model.hidden({.segments = &segments_, .edits = &looking, .labels = &labels_}, ids_);
    m.observed();
  }

  /// Brings methods with phases to the last one, in which they stay longest.
  void last_phase(nn::Method& m) {
    const int phases = static_cast<int>(m.phases().size());
    for (int phase = 1; phase < phases; ++phase) {
      // SDT's selection looks at how far the warm-up moved A_log; others see one step.
      bool moved = false;
      for (const auto& [site, edit] : edits_.all())
        for (const nn::Trainable& t : edit->trainables()) {
          if (!ends_with(t.name, "A_log.sdt_warmup")) continue;
          moved = true;
          Tensor change = t.var.value();
          for (int64_t i = 0; i < change.numel(); ++i)
            change.data<float>()[i] = static_cast<float>(i * 37 % 101) * 1e-4f;
        }
      if (!moved) training();
      for (const auto& each : methods_) each->begin_phase(phase);
      bind();
    }
  }

  double inference() {
    const NoGrad no_grad;
    nn::Context c;
    c.segments = &segments_;
    std::vector<int64_t> last;
    Var h;
    if (o_.method == "prompt" || carry_.empty()) {
      h = model.hidden(c, ids_, nullptr, &carry_);
      for (int64_t s = 0; s < o_.batch; ++s) last.push_back((s + 1) * o_.segment - 1);
    } else {
      Segments one;
      std::vector<int32_t> next;
      for (int64_t s = 0; s < o_.batch; ++s) {
        one.append(1), last.push_back(s);
        next.push_back(static_cast<int32_t>((s + 1) * 7919 * static_cast<int64_t>(++step_) % model.plan().vocabulary));
      }
      c.segments = &one;
      nn::Carry out;
      h = model.hidden(c, next, &carry_, &out);
      carry_ = std::move(out);
    }
    return static_cast<double>(model.logits(c, h, last).value().data<float>()[0]);
  }

  double training() {
    nn::Context c;
    c.segments = &segments_, c.edits = &edits_, c.training = true, c.seed = 1, c.recompute = o_.recompute;
    c.step = step_, c.phase_step = static_cast<int64_t>(step_++), c.phase_steps = kPhaseSteps;
    const data::Batch batch{.ids = ids_, .labels = labels_, .segments = segments_};
    const train::PassLoss part = train::run_pass(model, c, batch, {.length = o_.span, .keep = o_.keep << 20});
    const TimedOp timed("optimizer", false);
    const double scale = 1 / static_cast<double>(part.count);
    for (const auto& m : methods_) m->before_step({c.phase_step, kPhaseSteps, scale});
    const double norm = optim::grad_norm(optimizer_->parameters()) * scale;
    optimizer_->step(1e-4, scale * optim::clip_scale(norm, 1.0));
    for (const auto& m : methods_) m->after_step();
    return part.sum * scale;
  }

  void bind() {
    edits_.clear();
    for (const auto& m : methods_) m->bind(edits_);
    std::vector<optim::Parameter> parameters;
    for (const auto& [site, edit] : edits_.all())
      for (const nn::Trainable& t : edit->trainables()) parameters.push_back({t.name, t.var, t.lr_scale, t.decays});
    for (const auto& m : methods_)
      for (const nn::Trainable& t : m->base_trainables()) parameters.push_back({t.name, t.var, t.lr_scale, t.decays});
    optimizer_ = std::make_unique<optim::AdamW>(std::move(parameters), optim::AdamWConfig{});
  }

  static constexpr int64_t kPhaseSteps = 1000;
  Options o_;
  nn::Precision precision_;

 public:
  nn::LanguageModel model;

 private:
  std::vector<std::unique_ptr<nn::Method>> methods_;
  nn::EditSet edits_;
  std::unique_ptr<optim::AdamW> optimizer_;
  Segments segments_;
  std::vector<int32_t> ids_, labels_;
  nn::Carry carry_;
  uint64_t step_ = 0;
};

/// Wall seconds of the fastest of a few calls.
double best_of(int repeats, const std::function<void()>& f) {
  double best = 1e30;
  for (int i = 0; i <= repeats; ++i) {
    const double before = wall_seconds();
    f();
    if (i > 0) best = std::min(best, wall_seconds() - before);
  }
  return best;
}

Tensor noise(Shape shape, Dtype dtype, float scale = 1, float shift = 0) {
  Tensor t = Tensor::empty(shape, Dtype::kF32);
  const Rng rng(static_cast<uint64_t>(t.numel()));
  for (int64_t i = 0; i < t.numel(); ++i)
    t.data<float>()[i] =
        i < 4096 ? shift + scale * static_cast<float>(rng.normal(static_cast<uint64_t>(i))) : t.data<float>()[i - 4096];
  return dtype == Dtype::kF32 ? t : t.to(dtype);
}

/// What the parts of a step take alone, per step: seconds by part.
Json ceilings(Run& run, const Options& o) {
  const nn::LanguageModelPlan& plan = run.model.plan();
  const nn::MambaConfig& m = plan.layers[0].mixer;
  const int64_t T = run.tokens(), E = m.d_inner, N = m.d_state;
  const double layers = static_cast<double>(plan.layers.size());
  const Dtype operand = o.precision == "f32" ? Dtype::kF32 : Dtype::kBf16;
  Json out = Json::object();

  double forward = 0, backward_ = 0, head = 0;
  const NoGrad no_grad;
  const auto product = [&](const PackedMatrix& w, int64_t rows, bool fwd, double& sum) {
    const Tensor a = noise({rows, fwd ? w.inputs() : w.outputs()}, operand);
    const Tensor y = Tensor::empty({rows, fwd ? w.outputs() : w.inputs()}, Dtype::kF32);
    sum += best_of(
        2, [&] { fwd ? w.forward(matrix_view(a), matrix_view(y)) : w.backward(matrix_view(a), matrix_view(y)); });
  };
  for (const nn::Parameter& p : run.model.parameters()) {
    if (!p.packed) continue;
    if (p.layer == 0) {
      product(*p.packed, T, true, forward);
      if (p.packed->has_backward()) product(*p.packed, T, false, backward_);
    } else if (p.layer < 0 && run.labelled() > 0) {
      const int64_t chunk =
          std::min<int64_t>(run.labelled(), std::max<int64_t>(16, (int64_t{1} << 23) / plan.vocabulary));
      double one = 0;
      product(*p.packed, chunk, true, one);
      if (p.packed->has_backward()) product(*p.packed, chunk, false, one);
      head += one * static_cast<double>(run.labelled()) / static_cast<double>(chunk);
    }
  }
  out["products forward"] = forward * layers, out["products backward"] = backward_ * layers, out["head"] = head;

  const Tensor x = noise({T, E}, Dtype::kF32), dt = noise({T, E}, Dtype::kF32, 0.8f, -4.6f);
  Tensor A_log = Tensor::empty({E, N}, Dtype::kF32);
  for (int64_t i = 0; i < A_log.numel(); ++i) A_log.data<float>()[i] = std::log(static_cast<float>(i % N + 1));
  const auto segments = std::make_shared<const Segments>(run.segments());
  const ops::ScanTensors in{x,
                            dt,
                            A_log,
                            noise({T, N}, Dtype::kF32),
                            noise({T, N}, Dtype::kF32),
                            noise({E}, Dtype::kF32),
                            noise({T, E}, Dtype::kF32),
                            {},
                            segments};
  const Tensor y = Tensor::empty({T, E}, Dtype::kF32);
  Tensor saved;
  out["scan forward"] = layers * best_of(4, [&] { ops::scan_kernels.at(Device::kCpu).forward(in, y, {}, &saved); });
  ops::ScanGrads g;
  g.dy = noise({T, E}, Dtype::kF32);
  for (GradOut* part : {&g.dx, &g.ddt, &g.dz}) part->tensor = Tensor::empty({T, E}, Dtype::kF32);
  for (GradOut* part : {&g.dB, &g.dC}) part->tensor = Tensor::empty({T, N}, Dtype::kF32);
  out["scan backward"] = layers * best_of(4, [&] { ops::scan_kernels.at(Device::kCpu).backward(in, saved, g); });

  const ops::ConvInputs conv{x, noise({E, m.d_conv}, Dtype::kF32), noise({E}, Dtype::kF32), {}, segments};
  ops::ConvGrads cg{g.dy, {}, {g.dx.tensor, false}, {}, {}, {}};
  out["conv"] = layers * (best_of(4, [&] { ops::conv_kernels.at(Device::kCpu).forward(conv, y, {}); }) +
                          best_of(4, [&] { ops::conv_kernels.at(Device::kCpu).backward(conv, cg); }));
  const Tensor h = noise({T, plan.d_model}, Dtype::kF32), w = noise({plan.d_model}, Dtype::kF32);
  const Tensor n = Tensor::empty(h.shape(), Dtype::kF32), inv = Tensor::empty({T}, Dtype::kF32);
  out["norm"] = layers * (best_of(4, [&] { ops::rms_norm_kernels.at(Device::kCpu).forward(h, w, 1e-5, n, inv); }) +
                          best_of(4, [&] {
                            ops::rms_norm_kernels.at(Device::kCpu).backward(h, w, inv, h, {n, false}, {});
                          }));
  double sum = 0;
  for (const auto& [name, seconds] : out.items()) sum += seconds.get<double>();
  out["sum"] = sum;
  return out;
}

int main_of(const Options& o) {
  if (o.threads > 0) set_compute_threads(o.threads);
  const double started = wall_seconds();
  if (o.steps == 0) start_op_times();
  Run run(o);
  double loss = run.step();
  const double first = wall_seconds() - started;
  std::vector<double> wall, cpu;
  if (o.steps > 0) start_op_times();
  for (int64_t i = 0; i < o.steps; ++i) {
    const double w = wall_seconds(), c = cpu_seconds();
    loss = run.step();
    wall.push_back(wall_seconds() - w), cpu.push_back(cpu_seconds() - c);
  }
  if (wall.empty()) wall.push_back(first), cpu.push_back(cpu_seconds());
  const std::vector<OpTime> times = stop_op_times();
  const MemoryUse memory = memory_use();
  const double peak = static_cast<double>(process_memory().peak) / (1 << 20);
  const double wall_sum = [&] {
    double s = 0;
    for (const double w : wall) s += w;
    return s;
  }();
  std::sort(wall.begin(), wall.end()), std::sort(cpu.begin(), cpu.end());
  const double tokens = static_cast<double>(run.tokens()), threads = compute_threads();
  Json out = {{"shape", o.shape},
              {"method", o.method},
              {"precision", o.precision},
              {"segment", o.segment},
              {"span", o.span},
              {"keep_mib", o.keep},
              {"batch", o.batch},
              {"labelled", o.labelled},
              {"threads", compute_threads()},
              {"recompute", o.recompute},
              {"trainable", run.trainable_count()},
              {"loss", loss},
              {"tokens_per_second", tokens / wall[wall.size() / 2]},
              {"tokens_per_second_best", tokens / wall[0]},
              {"tokens_per_cpu_second_times_threads", tokens / cpu[cpu.size() / 2] * threads},
              {"cpu_ms_per_token", cpu[cpu.size() / 2] / tokens * 1e3},
              {"first_step_seconds", first},
              {"peak_rss_mib", peak},
              {"pool_peak_mib", static_cast<double>(memory.peak) / (1 << 20)},
              {"pool_reserved_mib", static_cast<double>(memory.reserved) / (1 << 20)}};
  Json split = Json::object();
  double counted = 0;
  const double steps = static_cast<double>(wall.size());
  for (const OpTime& t : times) {
    split[t.name + (t.backward ? " backward" : "")] = t.seconds / steps * 1e3;
    counted += t.seconds;
  }
  split["other"] = (wall_sum - counted) / steps * 1e3;
  out["split_ms"] = split;
  if (!o.no_ceilings && o.method != "prompt" && o.method != "decode") {
    out["alone_seconds"] = ceilings(run, o);
    out["share_of_parts"] = out["alone_seconds"]["sum"].get<double>() / wall[wall.size() / 2];
  }
  if (!o.no_ceilings) out["read_gb_per_second"] = reading_speed() * 1e-9;
  if (!o.no_ceilings && o.method == "decode") {
    double bytes = 0;  // a token reads every weight once
    for (const nn::Parameter& p : run.model.parameters())
      bytes += p.packed ? static_cast<double>(p.packed->bytes()) : 0;
    out["weight_mib"] = bytes / (1 << 20);
    out["share_of_reading"] = bytes * 1e-9 / wall[wall.size() / 2] / out["read_gb_per_second"].get<double>();
  }
  if (o.json) {
    std::printf("%s\n", out.dump().c_str());
    return 0;
  }
  std::printf("%s\n", out.dump(1).c_str());
  return 0;
}

}  // namespace
}  // namespace molt::bench

int main(int argc, char** argv) {
  molt::bench::Options o;
  CLI::App app("one training step, and its parts");
  app.add_option("--shape", o.shape);
  app.add_option("--method", o.method);
  app.add_option("--precision", o.precision);
  app.add_option("--segment", o.segment);
  app.add_option("--span", o.span, "as a recipe's span_length");
  app.add_option("--keep", o.keep, "as a recipe's span_memory, in MiB");
  app.add_option("--batch", o.batch);
  app.add_option("--threads", o.threads);
  app.add_option("--labelled", o.labelled);
  app.add_option("--steps", o.steps);
  app.add_flag("--recompute", o.recompute);
  app.add_flag("--no-ceilings", o.no_ceilings);
  app.add_flag("--json", o.json);
  CLI11_PARSE(app, argc, argv);
  try {
    return molt::bench::main_of(o);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "train_bench: %s\n", e.what());
    return 1;
  }
}

#include "molt/app/calibrate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "molt/app/methods.h"
#include "molt/autograd/tape.h"
#include "molt/base/error.h"
#include "molt/base/rng.h"
#include "molt/device/cpu/parallel.h"
#include "molt/device/gemm.h"
#include "molt/optim/adamw.h"

namespace molt::app {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::vector<float> noise(int64_t count, const char* name) {
  const Rng rng(7, name);
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(2 * rng.uniform(i) - 1);
  return values;
}

/// Seconds of the fastest call of f, at least two calls (the first makes buffers and primitives).
template <class F>
double fastest(double seconds, const F& f) {
  const auto begin = Clock::now();
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 2 || since(begin) < seconds; ++i) {
    const auto start = Clock::now();
    f();
    best = std::min(best, since(start));
  }
  return std::max(best, 1e-9);
}

}  // namespace

ProductRate product_rate(int64_t rows, int64_t outputs, int64_t inputs, Dtype compute, double seconds) {
  const std::vector<float> w = noise(outputs * inputs, "w"), x = noise(rows * inputs, "x"),
                           dy = noise(rows * outputs, "y");
  std::vector<float> y(dy.size()), dx(x.size());
  const PackedMatrix packed(matrix_of(w.data(), outputs, inputs), {.compute = compute, .rows_hint = rows});
  const double flops = 2.0 * static_cast<double>(rows) * static_cast<double>(outputs) * static_cast<double>(inputs);
  ProductRate rate;
  rate.forward = flops / fastest(seconds / 2, [&] {
                   packed.forward(matrix_of(x.data(), rows, inputs), matrix_of(y.data(), rows, outputs));
                 });
  rate.backward = flops / fastest(seconds / 2, [&] {
                    packed.backward(matrix_of(dy.data(), rows, outputs), matrix_of(dx.data(), rows, inputs));
                  });
  return rate;
}

double memory_bandwidth(double seconds) {
  constexpr int64_t kBytes = int64_t{64} << 20;  // more than caches hold
  const auto from = Block::allocate(Device::kCpu, kBytes), to = Block::allocate(Device::kCpu, kBytes);
  std::memset(from->data(), 1, kBytes);
  const double best = fastest(seconds, [&] {
    parallel_ranges(kBytes, 1 << 16, [&](int64_t begin, int64_t end) {
      std::memcpy(static_cast<char*>(to->data()) + begin, static_cast<const char*>(from->data()) + begin,
                  static_cast<size_t>(end - begin));
    });
  });
  return 2.0 * kBytes / best;
}

double product_error(Dtype compute) {
  constexpr int64_t T = 24, O = 48, I = 40;
  const std::vector<float> w = noise(O * I, "w"), x = noise(T * I, "x"), dy = noise(T * O, "y");
  std::vector<float> y(T * O), dx(T * I);
  const PackedMatrix packed(matrix_of(w.data(), O, I), {.compute = compute, .rows_hint = T});
  packed.forward(matrix_of(x.data(), T, I), matrix_of(y.data(), T, O));
  packed.backward(matrix_of(dy.data(), T, O), matrix_of(dx.data(), T, I));
  double largest = 0, error = 0;
  auto compare = [&](double expected, float found) {
    largest = std::max(largest, std::abs(expected));
    error = std::max(error, std::isfinite(found) ? std::abs(expected - static_cast<double>(found)) : HUGE_VAL);
  };
  auto at = [](const std::vector<float>& m, int64_t i) { return static_cast<double>(m[static_cast<size_t>(i)]); };
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t o = 0; o < O; ++o) {
      double sum = 0;
      for (int64_t i = 0; i < I; ++i) sum += at(x, t * I + i) * at(w, o * I + i);
      compare(sum, y[static_cast<size_t>(t * O + o)]);
    }
    for (int64_t i = 0; i < I; ++i) {
      double sum = 0;
      for (int64_t o = 0; o < O; ++o) sum += at(dy, t * O + o) * at(w, o * I + i);
      compare(sum, dx[static_cast<size_t>(t * I + i)]);
    }
  }
  return error / largest;
}

namespace {

constexpr int64_t kProbeLayers = 2;

/// Makes a layer's input want a gradient, as that of every layer above the first that trains does.
class Leaf final : public nn::Edit {
 public:
  Var change_output(const nn::EditContext&, const Var& y) const override {
    return y.needs_grad() ? y : Var::leaf(y.value());
  }
  std::vector<nn::Trainable> trainables() const override { return {}; }
};

/// A model of two layers with the methods' edits, and all a step needs.
struct Probe {
  models::LoadedModel loaded;
  std::vector<std::unique_ptr<nn::Method>> methods;
  nn::EditSet edits;
  std::unique_ptr<optim::AdamW> optimizer;

  Probe(const models::LoadedModel& like, const std::vector<MethodEntry>& entries, uint64_t seed) {
    nn::LanguageModelPlan plan = like.model->plan();
    plan.layers.assign(kProbeLayers, plan.layers.at(0));
    loaded.family = like.family;
    loaded.model = std::make_unique<nn::LanguageModel>(plan, like.model->precision());
    for (const MethodEntry& entry : entries) {
      auto method = make_method(entry, seed, loaded.model->precision().activation());
      try {
        method->declare(loaded.model->sites(), loaded.model->parameters());
      } catch (const UsageError&) {
        continue;  // what it trains lies in other layers
      }
      methods.push_back(std::move(method));
    }
    fill(seed);
    attach();
    const nn::Site* embedding = nullptr;
    for (const nn::Site& site : loaded.model->sites().all()) {
      if (site.kind == nn::SiteKind::kEmbedding) embedding = &site;
    }
    MOLT_CHECK(embedding, "calibrate: the model has no embedding");
    edits.add(*embedding, std::make_shared<Leaf>());
    make_optimizer();
  }

  /// The family's initial values, but for large tables: drawing them would take longer than the measurement.
  void fill(uint64_t seed) {
    constexpr int64_t kLarge = int64_t{8} << 20;
    for (nn::Parameter& p : loaded.model->parameters()) {
      Tensor values;
      if (shape_numel(p.shape) <= kLarge) {
        values = loaded.family->initial(p, loaded.model->plan(), seed);
      } else {
        values = Tensor::empty(p.shape, Dtype::kF32);
        float* out = values.data<float>();
        for (int64_t i = 0; i < values.numel(); ++i)
          out[i] = 0.02f * static_cast<float>((i * 2654435761u >> 8 & 255) - 128) / 128;
      }
      p.set(values, loaded.model->precision(), true);
    }
  }

  void attach() {
    std::vector<std::unique_ptr<nn::Method>> found;
    for (auto& method : methods) {
      try {
        method->attach(loaded.model->sites());
      } catch (const UsageError&) {
        continue;
      }
      const int phases = static_cast<int>(method->phases().size());
      for (int phase = 1; phase < phases; ++phase) method->begin_phase(phase);
      method->bind(edits);
      found.push_back(std::move(method));
    }
    methods = std::move(found);
  }

  void make_optimizer() {
    std::vector<optim::Parameter> parameters;
    auto add = [&](const nn::Trainable& t) { parameters.push_back({t.name, t.var, t.lr_scale, t.decays}); };
    for (const auto& [site, edit] : edits.all()) {
      for (const nn::Trainable& t : edit->trainables()) add(t);
    }
    for (const auto& method : methods) {
      for (const nn::Trainable& t : method->base_trainables()) add(t);
    }
    if (!parameters.empty()) optimizer = std::make_unique<optim::AdamW>(std::move(parameters), optim::AdamWConfig());
  }
};

}  // namespace

StepRates calibrate(const models::LoadedModel& model, const std::vector<MethodEntry>& entries,
                    const CalibrationOptions& options) {
  Probe probe(model, entries, options.seed);
  const nn::LanguageModel& small = *probe.loaded.model;
  const int64_t T = options.rows;
  std::vector<int64_t> offsets;
  for (int64_t s = 0; s <= options.segments; ++s) offsets.push_back(T * s / options.segments);
  const Segments segments(offsets);
  const Rng rng(options.seed, "calibrate");
  std::vector<int32_t> ids(static_cast<size_t>(T));
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int32_t>(rng.below(i, static_cast<uint32_t>(small.plan().vocabulary)));
  nn::Context plain{.segments = &segments}, c{.segments = &segments, .edits = &probe.edits, .training = true};

  StepRates best;
  constexpr double kUnknown = std::numeric_limits<double>::infinity();
  best.plain_forward = best.layer_forward = best.layer_backward = best.head = best.update = kUnknown;
  const double token_layers = static_cast<double>(T * kProbeLayers);
  const auto begin = Clock::now();
  for (int i = 0; i < 2 || since(begin) < options.seconds; ++i) {
    auto start = Clock::now();
    auto lap = [&](double& slot, double count) {
      slot = std::min(slot, since(start) / count);
      start = Clock::now();
    };
    {
      NoGrad no_grad;
      small.hidden(plain, ids);
    }
    lap(best.plain_forward, token_layers);
    const Var h = small.hidden(c, ids);
    lap(best.layer_forward, token_layers);
    const nn::LossSum loss = small.loss(c, h, ids);
    lap(best.head, static_cast<double>(T));
    backward(loss.sum);
    lap(best.layer_backward, token_layers);
    if (!probe.optimizer) continue;
    probe.optimizer->step(0);
    for (const auto& method : probe.methods) method->after_step();
    lap(best.update, static_cast<double>(probe.optimizer->trainable_count()));
  }
  if (!probe.optimizer) best.update = 0;
  return best;
}

}  // namespace molt::app
